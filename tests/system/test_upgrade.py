"""A spool that an older release left, with mail in every state, and an older release that finds a newer one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import time
import zlib
from pathlib import Path

from programs import DOMAIN, Gateway, Stage, domain, letter

# The tables of the first release, as it made them.
FIRST = """
    PRAGMA page_size=4096;
    PRAGMA auto_vacuum=INCREMENTAL;
    PRAGMA journal_mode=WAL;
    CREATE TABLE [body] (
       [id] TEXT PRIMARY KEY NOT NULL, [size] INTEGER NOT NULL, [digest] BLOB NOT NULL, [path] TEXT, [data] BLOB
    );
    CREATE INDEX body_path ON body(path) WHERE path IS NOT NULL;
    CREATE TABLE [entry] (
       [id] TEXT PRIMARY KEY NOT NULL, [body_id] TEXT NOT NULL, [state] TEXT NOT NULL, [next_attempt_at] FLOAT,
       [facts] TEXT NOT NULL, [facts_sum] INTEGER NOT NULL, [skip] INTEGER NOT NULL, [content_sum] INTEGER NOT NULL,
       [prefix] BLOB NOT NULL
    );
    CREATE INDEX [entry_body] ON [entry] ([body_id]);
    PRAGMA user_version=1;
"""
PREFIX = b"Received: from before\r\n"
STATES = ("active", "held", "quarantined", "expired")
EACH = 250


def crc(*parts: bytes | str) -> int:
    value = 0
    for part in parts:
        value = zlib.crc32(part if isinstance(part, bytes) else part.encode(), value)
    return value


def first_release(folder: Path, now: float) -> dict[str, str]:
    """A thousand entries, every tenth with a large body. From id to state."""
    (folder / "bodies").mkdir(parents=True)
    made = {}
    with contextlib.closing(sqlite3.connect(folder / "spool.sqlite")) as connection:
        connection.executescript(FIRST)
        for number in range(EACH * len(STATES)):
            id, state = f"0before{number:08}", STATES[number % len(STATES)]
            body = letter(f"number {number}", b"x" * (300_000 if number % 10 == 0 else 30) + b"\r\n")
            digest = hashlib.sha256(body).digest()
            path = f"spool/0/bodies/{id}" if len(body) > 262_144 else None
            if path:
                (folder / "bodies" / id).write_bytes(body)
            due = now + 3600 if state == "active" else None
            facts = json.dumps(
                {
                    "v": 1, "message_id": id, "received_at": now - 7200, "sender": ["ann", "sender.example"],
                    "recipients": [["bob", DOMAIN, "delivered", 1, "250 ok"], ["carl", DOMAIN, "pending", 2, "451 no"]],
                    "size": len(body), "domain": DOMAIN, "priority": 5, "cause": "", "attempts": 2, "slots_used": 2,
                    "dns_errors": 0, "expires_at": None if state == "active" else now + 86400, "eight_bit": False,
                    "utf8": False, "may_notify": False, "delay_notified": False, "notice": False, "level": "none",
                    "peer_ip": "192.0.2.7", "hello": "client.example",
                },
                separators=(",", ":"),
            )  # fmt: skip
            data = None if path else body
            connection.execute("INSERT INTO body VALUES (?, ?, ?, ?, ?)", (id, len(body), digest, path, data))
            sums = crc(id, id, state, repr(due), facts), crc(id, "0", digest, PREFIX)
            connection.execute(
                "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (id, id, state, due, facts, sums[0], 0, sums[1], PREFIX),
            )
            made[id] = state
        connection.commit()
    return made


def version(gateway: Gateway) -> int:
    return int.from_bytes((gateway.data / "spool" / "0" / "spool.sqlite").read_bytes()[60:64], "big")


def test_a_spool_of_the_release_before_loses_nothing(play: Stage) -> None:
    primary = play.recording(start=False)
    gateway = play.gateway(domain(primary.port), start=False)
    made = first_release(gateway.data / "spool" / "0", time.time())
    assert version(gateway) == 1
    gateway.start()
    listed = gateway.listed("spool", "list")
    assert {row["id"]: row["state"] for row in listed} == made
    assert {recipient["status"] for row in listed for recipient in row["recipients"]} == {"delivered", "pending"}
    # An older release looks here before it opens the file, and leaves alone what is newer than itself.
    assert version(gateway) > 1
    primary.start()
    gateway.command("spool", "release", "--state", "held")
    gateway.command("quarantine", "release", "--domain", DOMAIN)
    gateway.drain()
    assert {row["state"] for row in gateway.listed("spool", "list")} == {"expired"}
    arrived = [mail.field("Subject")[0] for mail in primary.received()]
    assert len(arrived) == len(set(arrived)) == 3 * EACH
    assert all(mail.recipients == (f"carl@{DOMAIN}",) for mail in primary.received())


def test_mail_of_a_worker_that_is_no_more_is_delivered(play: Stage) -> None:
    primary = play.recording()
    gateway = play.gateway(domain(primary.port), start=False)
    made = first_release(gateway.data / "spool" / "0", time.time())
    (gateway.data / "spool" / "0").rename(gateway.data / "spool" / "3")
    with contextlib.closing(sqlite3.connect(gateway.data / "spool" / "3" / "spool.sqlite")) as connection, connection:
        connection.execute("UPDATE body SET path = replace(path, 'spool/0', 'spool/3')")
    gateway.start()
    gateway.drain()
    assert primary.count() == EACH and len(gateway.listed("spool", "list")) == len(made) - EACH
    assert [path.name for path in (gateway.data / "spool").iterdir()] == ["0"]
    assert len(gateway.log_events(event="spool_adopted")) == 1
