"""Power goes at any moment, and the disk keeps only what it must: every promise is kept, the gateway starts, and
nothing is delivered that is not what was sent.

``make disk`` looks at many more states, and prints how many.
"""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from examining import faults, fresh
from powerloss import Cut, Disk, fingerprint, lay_out
from programs import RecordingPrimary, Stage, domain, until
from sync_order import broken_promises, pack_of
from traced import Traced, handed_over, letters, promises
from traces import Call

LONG = bool(os.environ.get("INBOUNDMX_LONG"))
MESSAGES = 100
# Chosen from all that are possible, for each story; and those on which the whole program is started.
STATES, STARTS = (2000, 10) if LONG else (50, 1)
# States are many, and syncing them is not what is tested.
ROOM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Found(NamedTuple):
    """A state that power may leave behind, and what must be in it."""

    number: int
    cut: Cut
    files: dict[str, bytes]
    promised: frozenset[str]


class Story:
    """A traced gateway's whole life, to be cut off anywhere."""

    def __init__(self, traced: Traced, calls: Sequence[Call], primary: RecordingPrimary) -> None:
        self.traced = traced
        self.calls = calls
        self._primary = primary
        self._ids = {digest: id for id, digest in traced.digests.items()}

    def found(self, count: int, seed: int = 4711) -> Iterator[Found]:
        """At each promise what is left when nothing is that was not synced; and ``count`` states chosen from all."""
        chance = random.Random(seed)
        moments = sum(1 for _ in self._moments())
        wanted: Counter[int] = Counter(chance.choices(range(moments), k=count))
        seen: set[bytes] = set()
        for number, (disk, promised, promising) in enumerate(self._moments()):
            if not promising and not wanted[number]:
                continue
            cuts = disk.cuts(chance)
            for cut in [*cuts[:promising], *chance.choices(cuts, k=wanted[number])]:
                files = disk.after(cut)
                mark = fingerprint(files) + repr(sorted(promised)).encode()
                if mark not in seen:
                    seen.add(mark)
                    yield Found(number, cut, files, promised)

    def _moments(self) -> Iterator[tuple[Disk, frozenset[str], bool]]:
        """Whenever what the disk must keep, or may, is another; what is promised by then; whether it just was."""
        disk = Disk(self.traced.gateway.folder, self.traced.gateway.data.name)
        promised: set[str] = set()
        before = 0
        for call, ended in disk.play(self.calls):
            new = set() if ended else set(promises(call))
            promised |= new
            if ended:
                promised -= set(handed_over(call, self._primary, self._ids))
            if new or len(disk.changes) != before:
                before = len(disk.changes)
                yield disk, frozenset(promised), bool(new)


def story(play: Stage, *inject: str, count: int = MESSAGES, senders: int = 4, up: bool = False) -> Story:
    """A gateway that keeps all mail before it answers, from its first start to its end."""
    primary = play.recording(start=up)
    gateway = play.gateway(domain(primary.port, handover="spool"), start=False)
    traced = Traced(gateway, *inject)
    traced.send(letters(count), senders)
    if up:
        until("all is delivered", lambda: primary.count() >= len(traced.digests))
    return Story(traced, traced.end(), primary)


def wrong_in(told: Story, count: int = STATES) -> list[str]:
    """What goes wrong with the spool, and what else is kept, in states that power may leave behind."""
    seen, wrong = 0, []
    with tempfile.TemporaryDirectory(prefix="inboundmx-power-", dir=ROOM) as room:
        for found in told.found(count):
            lay_out(found.files, fresh(Path(room)))
            seen += 1
            for fault in faults(Path(room) / "data", found.promised, told.traced.digests, told.traced.sent):
                wrong.append(f"moment {found.number}, {found.cut.name}: {fault}")
    print(f"{len(told.traced.digests)} messages promised, {seen} states after a power cut, {len(wrong)} faults")
    assert seen > count / 2
    return wrong


def in_order(told: Story) -> None:
    early = broken_promises(told.calls)
    print(f"{len(early)} answers of 250, {sum(map(bool, early.values()))} of them before the disk was done")
    assert set(early) == set(told.traced.digests)
    assert set(early.values()) == {""}


def test_with_the_primary_down_every_promise_outlives_a_power_cut(play: Stage) -> None:
    told = story(play, senders=8)
    assert told.traced.codes == [250] * MESSAGES
    written = [call for call in told.calls if call.writes and call.paths]
    assert any(call.paths[0].endswith("spool.sqlite") for call in written)
    packs = {pack_of(id, call) for call in written for id in told.traced.digests if call.paths[0].endswith("-wal")}
    assert packs > {""}, "some bodies share a file"
    in_order(told)
    assert wrong_in(told) == []
    started(play, told)


def test_with_mail_that_comes_and_goes_every_promise_outlives_a_power_cut(play: Stage) -> None:
    told = story(play, count=MESSAGES if LONG else 30, up=True)
    assert set(told.traced.codes) == {250}
    in_order(told)
    assert wrong_in(told) == []


def test_a_power_cut_while_a_condemned_file_is_replaced_costs_nothing(play: Stage) -> None:
    """What a failed sync was to make last is gone in these states, however often others succeed."""
    # Counted in each thread by itself: the one that starts comes to fewer.
    told = story(play, "fdatasync:error=EIO:when=35", count=MESSAGES if LONG else 40, senders=1)
    assert set(told.traced.codes) == {250, 451}
    assert told.traced.gateway.log_events(event="spool_condemned")
    in_order(told)
    assert wrong_in(told) == []


def test_a_disk_that_only_says_that_it_has_synced_is_found_out(play: Stage) -> None:
    """So that the tests above can fail: here no sync does anything, and the gateway cannot know."""
    told = story(play, "fdatasync:retval=0", "fsync:retval=0", count=5)
    early = broken_promises(told.calls)
    assert len(early) == 5 and all(early.values())
    assert len([fault for fault in wrong_in(told, 10) if fault.endswith("is lost")]) >= 5


# --- the whole program on such a disk ---------------------------------------------------------------------------------


def started(play: Stage, told: Story) -> None:
    """What it delivers is what was sent, and all that was promised."""
    for found in [*told.found(STARTS)][-STARTS:]:
        primary = play.recording()
        gateway = play.gateway(domain(primary.port), start=False)
        lay_out(found.files, gateway.data.parent)
        gateway.start()
        gateway.drain()
        arrived = [mail.content[mail.content.index(b"From: <someone@") :] for mail in primary.received()]
        digests = {hashlib.sha256(octets).digest() for octets in arrived}
        assert digests <= told.traced.sent
        assert {told.traced.digests[id] for id in found.promised} <= digests
        assert len(arrived) == len(digests)
        gateway.stop()
