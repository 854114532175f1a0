"""A disk that fails in one way after the other, under a running gateway: what it cannot keep is 451 or 452, what was
promised arrives once, and what is damaged is kept from being delivered."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import Answer, Gateway, RecordingPrimary, Stage, domain, letter, post, small_disk, until

SMALL, LARGE = b"small\r\n", b"d" * 400_000 + b"\r\n"


def offer(gateway: Gateway, subject: str, body: bytes = SMALL) -> int:
    return post(gateway.port, letter(subject, body)).code


def spool_of(gateway: Gateway) -> Path:
    return gateway.data / "spool" / "0"


# --- a sync that fails ------------------------------------------------------------------------------------------------

_SYNC = re.compile(r"f(?:data)?sync\(\d+<(?P<path>[^>]*)>\) += (?P<result>-?\d+)")


@pytest.mark.root
def test_a_disk_that_fails_is_451_and_what_was_promised_stays(play: Stage) -> None:
    primary = play.recording(start=False)
    gateway = play.gateway(domain(primary.port))
    assert post(gateway.port, letter("before, small", SMALL)).code == 250
    assert post(gateway.port, letter("before, large", LARGE)).code == 250

    saboteur = play.sabotage(gateway, "fsync,fdatasync:error=EIO")
    answers = [post(gateway.port, letter("meanwhile", body)) for body in (LARGE, SMALL, LARGE, SMALL)]
    saboteur.close()

    assert {answer.code for answer in answers} == {451}
    until("service again", lambda: post(gateway.port, letter("after", SMALL)).code == 250)
    primary.start()
    gateway.drain()
    # What was refused is the stranger's to send again; a copy of it from us would be one too many.
    assert primary.subjects() == {"before, small": 1, "before, large": 1, "after": 1}


@pytest.mark.root
def test_a_failed_sync_is_451_and_that_file_is_not_synced_again(play: Stage) -> None:
    """The K-th sync fails, once. A second one of the same file would say that all is well, and be believed."""
    primary = play.recording(start=False)
    gateway = play.gateway(domain(primary.port))
    accepted: set[str] = set()
    refused: set[str] = set()
    for failing in range(1, 4):
        saboteur = play.sabotage(gateway, f"fsync,fdatasync:error=EIO:when={failing}")
        for number, body in enumerate((SMALL, LARGE, SMALL)):
            subject = f"failing {failing} number {number}"
            code = offer(gateway, subject, body)
            assert code in {250, 451}
            (accepted if code == 250 else refused).add(subject)
        saboteur.close()
        syncs = [(match["path"], int(match["result"])) for match in _SYNC.finditer(saboteur.errors.read_text())]
        broken = [number for number, (_, result) in enumerate(syncs) if result]
        for number in broken:
            path = syncs[number][0]
            if "spool.sqlite" in path or "/spool-" in path:
                assert path not in [later for later, _ in syncs[number + 1 :]], (failing, syncs)
        until("service again", lambda: offer(gateway, "again") == 250)
    assert len(refused) >= 2, "a sync that failed was noticed"
    primary.start()
    gateway.drain()
    counted = primary.subjects()
    counted.pop("again")
    assert counted == dict.fromkeys(accepted, 1)
    assert gateway.log_events(event="spool_condemned")


# --- what cannot be read ----------------------------------------------------------------------------------------------


@pytest.mark.root
def test_a_body_that_cannot_be_read_is_put_aside_and_the_others_flow(play: Stage) -> None:
    primary = play.recording(start=False)
    gateway = play.gateway(domain(primary.port))
    for number in range(4):
        assert offer(gateway, f"number {number}", LARGE) == 250
    first = gateway.listed("spool", "list")[0]["id"]
    # What was just kept is still in memory.
    gateway.restart()
    saboteur = play.sabotage(gateway, "read:error=EIO", spool_of(gateway) / "bodies" / first)
    primary.start()
    gateway.drain()
    (left,) = gateway.listed("spool", "list")
    saboteur.close()
    assert (left["id"], left["state"]) == (first, "held")
    (event,) = gateway.log_events(event="held")
    assert (event["level"], event["cause"]) == ("error", "damaged")
    assert primary.subjects() == {"number 1": 1, "number 2": 1, "number 3": 1}
    # The disk was the fault, not what is on it.
    gateway.command("spool", "release", first)
    primary.one(b"number 0")


# --- no room, no folder, no writing -----------------------------------------------------------------------------------


@pytest.mark.root
def test_a_full_disk_is_452_and_heals(play: Stage) -> None:
    primary = play.recording(start=False)
    gateway = play.gateway(domain(primary.port), start=False)
    with small_disk(gateway, "size=24m"):
        full_disk(gateway, primary)


def full_disk(gateway: Gateway, primary: RecordingPrimary) -> None:
    gateway.start()
    taken = 0
    for number in range(400):
        answer: Answer = post(gateway.port, letter(f"filling {number}", b"f" * 400_000 + b"\r\n"))
        if answer.code != 250:
            break
        taken += 1
    assert (answer.code, answer.enhanced) == (452, "4.3.1"), answer
    assert taken > 0
    # The last octets, for what is small.
    for number in range(2000):
        answer = post(gateway.port, letter(f"small {number}", b"s" * 20_000 + b"\r\n"))
        if answer.code != 250:
            break
        taken += 1
    assert (answer.code, answer.enhanced) == (452, "4.3.1"), answer

    primary.start()
    gateway.drain()
    assert post(gateway.port, letter("room again")).code == 250
    primary.one(b"room again")
    assert len(primary.subjects()) == taken + 1


@pytest.mark.root
def test_a_disk_without_inodes_is_452_and_heals(play: Stage) -> None:
    primary = play.recording(start=False)
    gateway = play.gateway(domain(primary.port), start=False)
    with small_disk(gateway, "size=100m,nr_inodes=60"):
        gateway.start()
        codes = []
        while not codes or codes[-1] == 250:
            codes.append(offer(gateway, f"filling {len(codes)}", LARGE))
            assert len(codes) < 100
        assert codes[-1] == 452 and len(codes) > 10
        primary.start()
        gateway.drain()
        until("mail is taken again", lambda: offer(gateway, "room again") == 250)
        primary.one(b"room again")
        counted = primary.subjects()
        assert counted == {f"filling {n}": 1 for n in range(len(codes) - 1)} | {"room again": counted["room again"]}


@pytest.mark.root
def test_a_disk_that_takes_no_writes_is_451_and_heals(play: Stage) -> None:
    """As it is when the system has mounted it read-only after an error."""
    primary = play.recording(start=False)
    gateway = play.gateway(domain(primary.port))
    assert offer(gateway, "before") == 250
    saboteur = play.sabotage(gateway, "pwrite64:error=EROFS")
    assert [offer(gateway, "meanwhile", body) for body in (SMALL, SMALL)] == [451, 451]
    assert gateway.listed("spool", "list")[0]["state"] == "active", "it goes on otherwise"
    saboteur.close()
    until("service again", lambda: offer(gateway, "after") == 250)
    primary.start()
    gateway.drain()
    counted = primary.subjects()
    assert (counted["before"], counted["meanwhile"], counted["after"]) == (1, 0, 1)


def test_a_folder_that_is_gone_costs_the_mail_that_needs_it_a_451(play: Stage) -> None:
    primary = play.recording(start=False)
    gateway = play.gateway(domain(primary.port))
    incoming = spool_of(gateway) / "incoming"
    incoming.rename(incoming.with_name("elsewhere"))
    assert (offer(gateway, "meanwhile", LARGE), offer(gateway, "small")) == (451, 250)
    incoming.with_name("elsewhere").rename(incoming)
    assert offer(gateway, "after", LARGE) == 250
    primary.start()
    gateway.drain()
    assert primary.subjects() == {"small": 1, "after": 1}


# --- damage found at the start ----------------------------------------------------------------------------------------


def cut(octets: Callable[[int], int]) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / "spool.sqlite", octets((folder / "spool.sqlite").stat().st_size))


def flip(folder: Path) -> None:
    path = folder / "spool.sqlite"
    octets = bytearray(path.read_bytes())
    for number in range(64):
        octets[(number * 7919 + 4096) % len(octets)] ^= 0x55
    path.write_bytes(octets)


def junk(folder: Path) -> None:
    for place in (folder, folder / "bodies", folder / "incoming"):
        for number in range(500):
            (place / f"foreign {number}").write_bytes(b"")
        os.mkfifo(place / "a pipe")
        (place / "a link").symlink_to("/dev/zero")
        (place / "a folder").mkdir()
    os.mkfifo(folder / "spool-5.sqlite")
    (folder / "spool-6.sqlite").write_bytes(b"")


@pytest.mark.parametrize(
    ("harm", "whole"),
    [
        (cut(lambda size: 0), False),
        (cut(lambda size: size // 2), False),
        (flip, False),
        (lambda folder: (folder / "spool.sqlite").chmod(0), True),
        (lambda folder: shutil.rmtree(folder / "incoming"), True),
        (junk, True),
    ],
    ids=["emptied", "halved", "flipped", "chmod 0", "no folder", "junk"],
)
def test_a_damaged_spool_starts_and_delivers_what_is_left_of_it(
    play: Stage, harm: Callable[[Path], None], whole: bool
) -> None:
    primary = play.recording(start=False)
    gateway = play.gateway(domain(primary.port))
    sent = {f"number {n}" for n in range(12)}
    for subject in sent:
        assert offer(gateway, subject, b"x" * 3000 + b"\r\n") == 250
    assert gateway.stop() == 0
    harm(spool_of(gateway))
    gateway.start()
    assert offer(gateway, "new") == 250
    primary.start()
    gateway.drain()
    counted = primary.subjects()
    assert set(counted.values()) == {1} and counted["new"] == 1
    assert set(counted) <= sent | {"new"}
    assert not whole or set(counted) == sent | {"new"}
    assert whole or gateway.log_events(event="spool_damaged"), "what was lost is told"
