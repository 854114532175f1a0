"""Files that are not as they were left, or that somebody else has locked: what holds no mail never keeps a gateway from
starting, what holds mail is read as far as it goes, and nobody waits for ever."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from programs import Gateway, Stage, domain, letter, post, until

LONG = bool(os.environ.get("INBOUNDMX_LONG"))
FLIPS = 64
# Uses the state store, and puts nobody off.
GREYLIST = "[check greylist]\nuse = greylist\nweight.new = 0\nweight.early = 0\n"


def offer(gateway: Gateway, subject: str, octets: int = 3000) -> int:
    return post(gateway.port, letter(subject, b"x" * octets + b"\r\n")).code


def flipped(path: Path, seed: int) -> None:
    chance = random.Random(seed)
    octets = bytearray(path.read_bytes())
    for _ in range(FLIPS):
        octets[chance.randrange(len(octets))] ^= 1 << chance.randrange(8)
    path.write_bytes(octets)


def flips(seeds: range) -> dict[str, Callable[[Path], object]]:
    return {f"{FLIPS} octets flipped, seed {seed}": lambda path, seed=seed: flipped(path, seed) for seed in seeds}


# After these the files are set aside and begun anew, so that the next one finds them whole ...
DAMAGES: dict[str, Callable[[Path], object]] = {
    "emptied": lambda path: os.truncate(path, 0),
    "halved": lambda path: os.truncate(path, path.stat().st_size // 2),
    "no database": lambda path: path.write_bytes(b"mail " * 4000),
    "log removed": lambda path: Path(f"{path}-wal").unlink(missing_ok=True),
} | flips(range(1, 31))
# ... and after these not, as long as they are there.
OBSTACLES: dict[str, Callable[[Path], object]] = {
    "no permission": lambda path: path.touch(mode=0),
    "a pipe": lambda path: os.mkfifo(path, 0o644),
    "a folder": Path.mkdir,
    "a link to nowhere": lambda path: path.symlink_to("/no/such/file"),
}
# Much of it is also tried file by file, without a gateway.
TRIED = [*DAMAGES, *OBSTACLES] if LONG else ["halved", "log removed", "no permission", "a pipe"]


@contextlib.contextmanager
def locked(*paths: Path) -> Iterator[None]:
    """By another program, for reading as well."""
    with contextlib.ExitStack() as held:
        for path in paths:
            other = held.enter_context(contextlib.closing(sqlite3.connect(path, isolation_level=None)))
            other.execute("PRAGMA locking_mode=EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            other.execute("PRAGMA user_version=1")
        yield


@pytest.mark.root
def test_whatever_the_state_and_the_ledger_are_like_it_starts_and_mail_goes_on(play: Stage) -> None:
    primary = play.recording()
    # Root may read what has no permission.
    gateway = play.gateway(f"{domain(primary.port)}\n{GREYLIST}", gateway_keys="user = nobody\n")
    files = [gateway.data / "state.sqlite", gateway.data / "ledger" / "0.sqlite"]
    assert offer(gateway, "before") == 250
    for name in TRIED:
        if name == "log removed":
            # It is only there after a kill; what was damaged before is noticed first.
            for kind in ("state_damaged", "ledger_damaged"):
                until("the damage is told", lambda kind=kind: gateway.log_events(event=kind))
            gateway.kill9()
        else:
            gateway.stop()
        for path in files:
            if name in OBSTACLES:
                removed(path)
            (DAMAGES | OBSTACLES)[name](path)
        gateway.start()
        assert offer(gateway, name) == 250, name
    gateway.stop()
    for path in files:
        removed(path)
    gateway.start()
    gateway.stop()
    with locked(*files):
        gateway.start()
        assert offer(gateway, "locked") == 250
    assert set(primary.subjects()) == {"before", "locked", *TRIED}
    told = Counter(event["event"] for event in gateway.log_events() if event["level"] == "error")
    assert told["state_damaged"] and told["ledger_damaged"]
    obstacles = len(set(TRIED) & set(OBSTACLES))
    assert told["state_failing"] >= obstacles and told["ledger_failing"] >= obstacles
    print(f"{len(TRIED)} damages to the state and the ledger: {dict(told)}")


def removed(path: Path) -> None:
    """With its log, whatever it is."""
    for each in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        if each.is_dir() and not each.is_symlink():
            each.rmdir()
        else:
            each.unlink(missing_ok=True)


@pytest.mark.parametrize("name", ["log removed", *(flips(range(1, 31)) if LONG else ())])
def test_of_a_damaged_spool_what_can_be_read_is_delivered_unaltered(play: Stage, name: str) -> None:
    primary = play.recording(start=False)
    gateway = play.gateway(domain(primary.port))
    sent = {f"number {n}": 400_000 if n % 5 == 0 else 3000 for n in range(12)}
    for subject, octets in sent.items():
        assert offer(gateway, subject, octets) == 250
        if subject == "number 5":
            gateway.restart()
    gateway.kill9() if name == "log removed" else gateway.stop()
    DAMAGES[name](gateway.data / "spool" / "0" / "spool.sqlite")
    gateway.start()
    until("mail is taken", lambda: offer(gateway, "new") == 250)
    primary.start()
    gateway.drain()
    counted = primary.subjects()
    assert counted.pop("new") >= 1
    assert set(counted) <= set(sent) and set(counted.values()) <= {1}
    for mail in primary.received():
        subject = mail.field("Subject")[0]
        assert mail.content.endswith(b"\r\n\r\n" + b"x" * sent.get(subject, 3000) + b"\r\n"), "altered"
    if name == "log removed":
        assert {f"number {n}" for n in range(6)} <= set(counted), "only what was in the log went with it"
    held = {row["cause"] for row in gateway.listed("spool", "list")}
    assert held <= {"damaged"}
    lost = len(sent) - len(counted) - len(gateway.listed("spool", "list"))
    assert not lost or name == "log removed" or gateway.log_events(event="spool_damaged"), "what is gone is told"


def test_a_spool_that_another_program_has_locked_is_not_waited_for_long(play: Stage) -> None:
    primary = play.recording(start=False)
    gateway = play.gateway(domain(primary.port))
    assert offer(gateway, "before") == 250
    file = gateway.data / "spool" / "0" / "spool.sqlite"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(12 if LONG else 1):
            assert offer(gateway, "meanwhile") == 451
        assert gateway.listed("spool", "list")[0]["state"] == "active", "it goes on otherwise"
    assert offer(gateway, "after") == 250
    gateway.stop()
    with locked(file):
        gateway.spawn(gateway.launch_command())
        assert gateway.process is not None and gateway.process.wait(60) == 2
        assert "another program has locked the spool file" in gateway.errors.read_text()
    gateway.start()
    primary.start()
    gateway.drain()
    assert primary.subjects() == {"before": 1, "after": 1}
