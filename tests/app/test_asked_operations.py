"""What operators may ask: which entries a query means, what becomes of them, and who is on record for it."""

from __future__ import annotations

import base64
import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from inboundmx.app import changing
from inboundmx.app.answers import NotUnderstood
from inboundmx.app.changing import BATCH
from inboundmx.app.finding import TURN
from inboundmx.app.operations import Operations
from inboundmx.app.showing import BODY_HEAD
from inboundmx.model.address import Address
from inboundmx.model.custody import Change, Content, Host, SpoolEntry, SpoolRecipient, State, Status
from inboundmx.model.message import Body
from inboundmx.model.settings import DeliverySettings, DomainSettings, GatewaySettings, Settings
from inboundmx.ports import Damaged, StorageFull

NOW = 1_700_000_000.0


def entry(id: str, **facts: Any) -> SpoolEntry:
    made = SpoolEntry(
        id=id,
        message_id="m" + id,
        body_id=id,
        received_at=NOW - 3600,
        sender=Address("Ann", "sender.example"),
        recipients=(SpoolRecipient(Address("bob", "a.test")),),
        size=1000,
        domain="a.test",
        next_attempt_at=NOW + 600,
    )
    return replace(made, **facts)


QUARANTINED: dict[str, Any] = {
    "state": State.QUARANTINED,
    "next_attempt_at": None,
    "cause": "level",
    "expires_at": NOW + 86400,
}


class FakeSpool:
    def __init__(self, *entries: SpoolEntry) -> None:
        self.kept = {e.id: e for e in entries}
        self.commits: list[Change] = []
        self.bodies: dict[str, bytes] = {}
        self.prefixes: dict[str, bytes] = {}
        self.failure: Exception | None = None

    def entries(self) -> list[SpoolEntry]:
        return list(self.kept.values())

    def entry(self, id: str) -> SpoolEntry | None:
        return self.kept.get(id)

    def commit(self, change: Change) -> Deferred[None]:
        if self.failure:
            return fail(self.failure)
        self.commits.append(change)
        for e in change.update:
            self.kept[e.id] = e
        for id in change.remove:
            del self.kept[id]
        return succeed(None)

    def remove_soon(self, id: str) -> None:
        raise AssertionError("an operator's change is committed")

    def added(self) -> list[SpoolEntry]:
        return [deposit.entry for change in self.commits for deposit in change.add]

    def content(self, id: str) -> Deferred[Content]:
        if self.failure:
            return fail(self.failure)
        octets = self.bodies[id]
        prefix = self.prefixes.get(id, b"X-Spam-Level: NONE\r\n")
        return succeed(Content(prefix, 5, Body(len(octets), octets, None, b"")))

    def free_octets(self) -> int:
        return 12345


class FakeDeliveries:
    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str]]] = []
        self.aside: set[str] = set()
        self.on_their_way: set[str] = set()

    def changed(self, ids: Any) -> None:
        self.calls.append(("changed", list(ids)))

    def force(self, ids: Any) -> None:
        self.calls.append(("force", list(ids)))

    def set_aside(self, ids: Any) -> set[str]:
        self.aside |= set(ids) - self.on_their_way
        return set(ids) - self.on_their_way

    def status(self) -> dict[str, Any]:
        return {"hosts": {"127.0.0.1:25": {"state": "closed"}}, "claimed": 2}


class FakeJournal:
    def __init__(self) -> None:
        self.rows: list[tuple[str, str, dict[str, Any], str]] = []

    def record(self, event: str, id: str, fields: Any, *, level: str = "info") -> None:
        self.rows.append((event, id, dict(fields), level))


class FakeClock:
    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return 0.0


class FakeTurns(FakeClock):
    """Whose next turn comes when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []

    def call_later(self, seconds: float, call: Any, *arguments: Any) -> None:
        self.waiting.append((call, arguments))


SETTINGS = Settings(
    gateway=GatewaySettings(),
    domains={"a.test": DomainSettings("a.test", primary=(Host("192.0.2.10"), Host("2001:db8::1", 2525)))},
    fingerprint="f00",
)


class Desk:
    """Operations over fakes; ``ask`` gives what JSON would carry."""

    def __init__(self, *entries: SpoolEntry, live: bool = True, clock: FakeClock | None = None) -> None:
        self.spool = FakeSpool(*entries)
        self.deliveries = FakeDeliveries() if live else None
        self.journal = FakeJournal()
        self.operations = Operations(self.spool, self.deliveries, self.journal, clock or FakeClock(), SETTINGS)  # type: ignore[arg-type]

    def ask(self, operation: str, **arguments: Any) -> list[dict[str, Any]]:
        coroutine = self.operations.perform(operation, arguments, "ann (uid 7)")
        try:
            coroutine.send(None)
        except StopIteration as stop:
            rows = [row for row in stop.value if row is not None]
            return [json.loads(row if isinstance(row, str) else json.dumps(row)) for row in rows]
        raise AssertionError("nothing here waits")

    def events(self) -> list[tuple[str, str]]:
        return [(event, id) for event, id, _, level in self.journal.rows if level == "info"]


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


def test_list_gives_every_promised_key() -> None:
    reply = SpoolRecipient(Address("carl", "a.test"), Status.DELIVERED, 2, "250 2.0.0 ok")
    desk = Desk(
        entry("e1", sender=None, recipients=(SpoolRecipient(Address("bob", "a.test")), reply), attempts=2),
        entry("e2", domain="gone.test", state=State.HELD, next_attempt_at=None, received_at=NOW - 10),
    )
    first, second = desk.ask("spool.list")
    assert first == {
        "id": "e1",
        "sender": None,
        "recipients": [
            {"address": "bob@a.test", "status": "pending", "attempts": 0, "last_reply": None},
            {"address": "carl@a.test", "status": "delivered", "attempts": 2, "last_reply": "250 2.0.0 ok"},
        ],
        "size": 1000,
        "state": "active",
        "priority": 5,
        "attempts": 2,
        "next_attempt_at": NOW + 600,
        "age_seconds": 3600.0,
        "domain": "a.test",
        "route": "192.0.2.10:25 [2001:db8::1]:2525",
    }
    assert set(second) == set(first)
    assert (second["route"], second["next_attempt_at"], second["state"]) == (None, None, "held")


MANY = (
    entry("e1"),
    entry("e2", received_at=NOW - 10, sender=None),
    entry("e3", **QUARANTINED, sender=Address("zoe", "bad.example")),
    entry("e4", domain="b.test", recipients=(SpoolRecipient(Address("Dora", "b.test")),), received_at=NOW - 7200),
    entry("e5", state=State.HELD, next_attempt_at=None, domain="xn--bcher-kva.example"),
)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["e4", "e1", "e3", "e5", "e2"]),
        ({"ids": ["e2", "me1"]}, ["e1", "e2"]),
        ({"ids": ["E2"]}, ["e2"]),
        ({"ids": ["nosuch"]}, []),
        ({"domain": "B.TEST."}, ["e4"]),
        ({"domain": "bücher.example"}, ["e5"]),
        ({"recipient": "dora@B.test"}, ["e4"]),
        ({"recipient": "*@b.test"}, ["e4"]),
        ({"recipient": "dor@b.test"}, []),
        ({"sender": "<>"}, ["e2"]),
        ({"sender": "@bad.example"}, ["e3"]),
        ({"sender": "*@sub.bad.example"}, []),
        ({"state": "held"}, ["e5"]),
        ({"older": 3600}, ["e4", "e1", "e3", "e5"]),
        ({"older": 3600.5}, ["e4"]),
        ({"state": "active", "older": 60, "sender": "ann@sender.example"}, ["e4", "e1"]),
    ],
)
def test_a_query_means(query: dict[str, Any], expected: list[str]) -> None:
    assert ids(Desk(*MANY).ask("spool.list", **query)) == expected


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("spool.burn", {"ids": ["e1"]}),
        ("cellar.list", {}),
        ("quarantine.force", {"ids": ["e3"]}),
        ("quarantine.hold", {"ids": ["e3"]}),
        ("spool.hold", {}),
        ("spool.hold", {"ids": ["e1"], "priority": 3}),
        ("spool.priority", {"priority": 3}),
        ("spool.delete", {}),
        ("spool.delete", {"dry_run": True}),
        ("spool.release", {"ids": []}),
        ("spool.show", {"domain": "a.test"}),
        ("", {}),
    ],
)
def test_what_cannot_be_asked_changes_nothing(operation: str, arguments: dict[str, Any]) -> None:
    desk = Desk(*MANY)
    with pytest.raises(NotUnderstood):
        desk.ask(operation, **arguments)
    assert not desk.spool.commits and not desk.events()


def test_delete_commits_records_who_asked_and_tells_the_delivery_loop() -> None:
    desk = Desk(*MANY)
    (row,) = desk.ask("spool.delete", ids=["e1"])
    assert (row["id"], row["outcome"], row["reason"]) == ("e1", "deleted", None)
    assert "e1" not in desk.spool.kept and len(desk.spool.kept) == 4
    event, id, fields, level = desk.journal.rows[-1]
    assert (event, id, level) == ("deleted", "me1", "info")
    assert (fields["entry"], fields["asked_by"], fields["was"]) == ("e1", "ann (uid 7)", "active")
    assert desk.deliveries is not None and desk.deliveries.calls == [("changed", ["e1"])]


@pytest.mark.parametrize(
    "operation",
    [
        *("spool.delete", "spool.release", "spool.force", "spool.hold", "spool.reset-retries", "spool.bounce"),
        "quarantine.release",
    ],
)
def test_a_dry_run_tells_and_does_nothing(operation: str) -> None:
    desk = Desk(*MANY)
    told = desk.ask(operation, older=0, dry_run=True)
    assert told and all(row["reason"] == "dry run: nothing was done" for row in told)
    assert not desk.spool.commits and not desk.events()
    assert desk.deliveries is not None and not desk.deliveries.calls and not desk.deliveries.aside


def test_quarantine_sees_only_what_is_quarantined() -> None:
    desk = Desk(*MANY)
    assert ids(desk.ask("quarantine.list")) == ["e3"]
    assert desk.ask("quarantine.delete", ids=["e1"]) == []
    assert not desk.spool.commits


def test_quarantine_release_sends_on_by_a_schedule_begun_anew() -> None:
    desk = Desk(entry("e3", **QUARANTINED, slots_used=4))
    (row,) = desk.ask("quarantine.release", ids=["e3"])
    after = desk.spool.kept["e3"]
    assert row["outcome"] == "released"
    assert (after.state, after.next_attempt_at, after.cause, after.expires_at, after.slots_used) == (
        State.ACTIVE, NOW, "", None, 0,
    )
    assert desk.events() == [("released", "me3")]


def test_spool_release_makes_failed_recipients_pending_and_leaves_delivered_ones() -> None:
    recipients = tuple(
        SpoolRecipient(Address(status.value, "a.test"), status) for status in (Status.FAILED, Status.DELIVERED)
    )
    desk = Desk(entry("e5", state=State.HELD, next_attempt_at=None, cause="undeliverable", recipients=recipients))
    desk.ask("spool.release", ids=["e5"])
    assert [r.status for r in desk.spool.kept["e5"].recipients] == [Status.PENDING, Status.DELIVERED]


@pytest.mark.parametrize(
    ("operation", "id", "reason"),
    [
        ("spool.release", "e1", "is not held"),
        ("spool.release", "e3", "is quarantined; use quarantine release"),
        ("spool.force", "e5", "is held; release it first"),
        ("spool.reset-retries", "e5", "is held; release it first"),
        ("spool.hold", "e3", "is quarantined already"),
    ],
)
def test_who_names_an_entry_hears_why_it_stays(operation: str, id: str, reason: str) -> None:
    desk = Desk(*MANY)
    (row,) = desk.ask(operation, ids=[id])
    assert (row["outcome"], row["reason"]) == ("skipped", reason)
    assert not desk.spool.commits


def test_a_query_means_only_what_it_can_be_done_to() -> None:
    desk = Desk(*MANY)
    assert ids(desk.ask("spool.release", older=0)) == ["e5"]


@pytest.mark.parametrize("live", [True, False])
def test_force_makes_due_now(live: bool) -> None:
    desk = Desk(*MANY, live=live)
    desk.ask("spool.force", ids=["e1"])
    assert desk.events() == [("forced", "me1")]
    if desk.deliveries is None:
        assert desk.spool.kept["e1"].next_attempt_at == NOW
    else:
        # The entry is the delivery loop's: what it is just writing of it must not be undone.
        assert desk.deliveries.calls == [("force", ["e1"])] and not desk.spool.commits


def test_reset_retries_sets_all_counts_to_zero_and_tries_now() -> None:
    tried = SpoolRecipient(Address("bob", "a.test"), attempts=4, last_reply="451 busy")
    used = entry("e1", attempts=4, slots_used=3, dns_errors=1, cause="unanswered", recipients=(tried,))
    desk = Desk(used)
    (row,) = desk.ask("spool.reset-retries", ids=["e1"])
    after = desk.spool.kept["e1"]
    assert row["outcome"] == "retries_reset" and desk.events() == [("retries_reset", "me1")]
    assert (after.attempts, after.slots_used, after.dns_errors) == (0, 0, 0)
    assert (after.cause, after.next_attempt_at) == ("", NOW)
    assert after.recipients == (replace(tried, attempts=0),)


def test_hold_keeps_until_released() -> None:
    desk = Desk(entry("e1"))
    desk.ask("spool.hold", domain="a.test")
    after = desk.spool.kept["e1"]
    assert (after.state, after.cause, after.next_attempt_at, after.expires_at) == (State.HELD, "operator", None, None)
    assert desk.events() == [("held", "me1")]
    desk.ask("spool.release", ids=["e1"])
    assert desk.spool.kept["e1"] == entry("e1", next_attempt_at=NOW)


def test_priority_is_changed_whatever_the_state_and_on_record() -> None:
    desk = Desk(*MANY)
    assert len(desk.ask("spool.priority", older=0, priority=9)) == 5
    assert {kept.priority for kept in desk.spool.kept.values()} == {9}
    assert [fields["priority"] for event, _, fields, _ in desk.journal.rows if event == "prioritised"] == [9] * 5


@pytest.mark.parametrize("priority", [0, 11, True, 2.0, "5", None])
def test_a_priority_is_a_whole_number_up_to_ten(priority: Any) -> None:
    desk = Desk(*MANY)
    with pytest.raises(NotUnderstood):
        desk.ask("spool.priority", ids=["e1"], priority=priority)
    assert not desk.spool.commits


@pytest.mark.parametrize(("verb", "more"), [("hold", {}), ("reset-retries", {}), ("priority", {"priority": 1})])
def test_what_is_on_its_way_is_left_to_its_end_and_said_even_to_a_query(verb: str, more: dict[str, Any]) -> None:
    desk = Desk(entry("e1"), entry("e2"))
    assert desk.deliveries is not None
    desk.deliveries.on_their_way = {"e1"}
    rows = desk.ask(f"spool.{verb}", domain="a.test", **more)
    assert [(row["id"], row["outcome"] == "skipped") for row in rows] == [("e1", True), ("e2", False)]
    assert desk.spool.kept["e1"] == entry("e1") and len(desk.events()) == 1
    # Nothing stays set aside.
    assert desk.deliveries.aside == {"e2"} and desk.deliveries.calls == [("changed", ["e2"])]


def test_bounce_tells_the_sender_in_the_commit_that_ends_the_entry() -> None:
    reply = SpoolRecipient(Address("bob", "a.test"), attempts=3, last_reply="451 4.2.0 busy")
    ann = Address("ann", "a.test")
    desk = Desk(entry("e1", may_notify=True, sender=ann, recipients=(reply,)))
    desk.spool.bodies["e1"] = b"skip\nSubject: hello\r\n\r\nbody\r\n"
    (row,) = desk.ask("spool.bounce", ids=["e1"])
    assert (row["outcome"], row["reason"]) == ("bounced", None)
    (change,) = desk.spool.commits
    (deposit,) = change.add
    notice = deposit.entry
    assert change.remove == ("e1",) and not change.update
    assert (notice.sender, notice.notice, [r.address for r in notice.recipients]) == (None, True, [ann])
    assert b"451 4.2.0 busy" in deposit.content.body.head and b"Subject: hello" in deposit.content.body.head
    assert desk.events() == [("bounced", "me1")]
    assert [(event, fields["asked_by"]) for event, _, fields, level in desk.journal.rows if level == "warning"] == [
        ("failed", "ann (uid 7)")
    ]
    assert desk.deliveries is not None and desk.deliveries.calls == [("changed", [notice.id]), ("changed", ["e1"])]


@pytest.mark.parametrize("live", [True, False])
def test_bounce_keeps_to_the_notices_of_an_hour_and_to_what_was_asked(live: bool) -> None:
    quiet = (SpoolRecipient(Address("bob", "a.test"), notify="NEVER"), SpoolRecipient(Address("eve", "a.test")))
    entries = [entry(f"e{n}", may_notify=True, sender=Address(f"s{n}", "a.test"), recipients=quiet) for n in range(3)]
    desk = Desk(*entries, live=live)
    desk.operations.settings = replace(SETTINGS, delivery=DeliverySettings(notices_per_hour=2))
    desk.spool.bodies = dict.fromkeys(desk.spool.kept, b"skip\nSubject: hello\r\n\r\nbody\r\n")
    rows = desk.ask("spool.bounce", domain="a.test")
    assert [row["outcome"] for row in rows] == ["bounced", "bounced", "held"]
    assert [row.state for row in desk.spool.kept.values()] == [State.HELD]
    assert all(b"bob" not in each.content.body.head for change in desk.spool.commits for each in change.add)
    fates = [(fields["fate"], fields["recipients"]) for event, _, fields, _ in desk.journal.rows if event == "failed"]
    assert fates == [
        *[("notify", ["eve@a.test"]), ("dropped", ["bob@a.test"])] * 2,
        ("held", ["eve@a.test"]),
        ("dropped", ["bob@a.test"]),
    ]


def test_bounce_holds_what_its_sender_may_not_be_told_and_drops_what_has_none() -> None:
    held = entry("e3", state=State.HELD, cause="exhausted", next_attempt_at=None)
    desk = Desk(entry("e1"), entry("e2", sender=None), held, entry("e4", **QUARANTINED))
    rows = desk.ask("spool.bounce", domain="a.test")
    assert {row["id"]: row["outcome"] for row in rows} == {"e1": "held", "e2": "dropped", "e3": "held"}
    assert set(desk.spool.kept) == {"e1", "e3", "e4"} and not desk.spool.added()
    for id in ("e1", "e3"):
        kept = desk.spool.kept[id]
        assert (kept.state, kept.cause) == (State.HELD, "undeliverable") and kept.expires_at is not None
    (again,) = desk.ask("spool.bounce", ids=["e1"])
    assert again["outcome"] == "skipped" and "may not be told" in again["reason"]


def test_bounce_gives_way_to_who_changed_the_entry_while_it_was_read() -> None:
    desk = Desk(entry("e1", may_notify=True))
    octets = b"skip\nSubject: x\r\n\r\n"

    def content(id: str) -> Deferred[Content]:
        desk.spool.kept.clear()
        return succeed(Content(b"", 5, Body(len(octets), octets, None, b"")))

    desk.spool.content = content  # type: ignore[method-assign]
    (row,) = desk.ask("spool.bounce", ids=["e1"])
    assert (row["outcome"], row["reason"]) == ("skipped", "was changed by another command meanwhile")
    assert not desk.spool.commits and not desk.events()


def test_what_bounce_cannot_do_is_said_and_left() -> None:
    desk = Desk(entry("e1", may_notify=True), entry("e2", **QUARANTINED), entry("e3", may_notify=True))
    assert desk.deliveries is not None
    desk.deliveries.on_their_way = {"e3"}
    desk.spool.failure = Damaged("hash is wrong")
    rows = {row["id"]: row["reason"] for row in desk.ask("spool.bounce", ids=["e1", "e2", "e3"])}
    assert rows["e1"] == "cannot be read: hash is wrong; delete it"
    assert rows["e2"] == "is quarantined; release or delete it" and "on its way" in rows["e3"]
    assert not desk.spool.commits and not desk.events() and desk.deliveries.calls == [("changed", ["e1"])]


def test_quarantine_is_released_by_what_put_it_there_and_since_when() -> None:
    kept = {**QUARANTINED, "cause": "level high"}
    desk = Desk(
        entry("e1", **kept),
        entry("e2", **kept, received_at=NOW - 90),
        entry("e3", **{**kept, "cause": "reject by clamav"}),
        entry("e4"),
    )
    stamp = "X-Spam-Checks: spf=pass(0) Zen=listed(15)\r\n dkim=none(-2) dnswl=listed(reject)\r\n"
    desk.spool.prefixes = {id: f"X-Spam-Level: HIGH\r\n{stamp}".encode() for id in ("e1", "e2")}
    for id in desk.spool.kept:
        desk.spool.bodies[id] = b"skip\n"
    for cause in ("zen", "ZEN", "dnswl", "high", "level high"):
        assert ids(desk.ask("quarantine.list", cause=cause)) == ["e1", "e2"]
    assert ids(desk.ask("quarantine.list", cause="clamav")) == ["e3"]
    for cause in ("spf", "dkim", "level", "by", "nosuch"):
        assert desk.ask("quarantine.list", cause=cause) == []
    assert ids(desk.ask("quarantine.list", since=NOW - 100)) == ["e2"]
    assert ids(desk.ask("quarantine.release", cause="zen", since=NOW - 100)) == ["e2"]
    assert desk.events() == [("released", "me2")]


def test_export_gives_what_would_be_transmitted_and_is_on_record() -> None:
    desk = Desk(entry("e1"), entry("e2"))
    desk.spool.bodies = {"e1": b"skip\n" + b"x" * 40_000, "e2": b"skip\nshort"}
    first, *parts = desk.ask("spool.export", ids=["e1"])
    whole = b"".join(base64.b64decode(part["part"]) for part in parts)
    assert whole == b"X-Spam-Level: NONE\r\n" + b"x" * 40_000
    assert first == {"id": "e1", "message_id": "me1", "size": len(whole)}
    assert all(part["id"] == "e1" and len(part["part"]) < 22_000 for part in parts)
    assert desk.events() == [("exported", "me1")]
    assert ids(desk.ask("spool.export", older=0, dry_run=True)) == ["e1", "e2"]
    assert len(desk.events()) == 1 and not desk.spool.commits


def test_export_is_exact_when_asked_to_be_tells_what_is_damaged_and_has_a_bound() -> None:
    desk = Desk(entry("e1"), entry("e2", message_id="e1"), *(entry(f"x{n}", domain="b.test") for n in range(501)))
    assert ids(desk.ask("spool.export", ids=["e1"], dry_run=True)) == ["e1", "e2"]
    assert ids(desk.ask("spool.export", ids=["e1"], dry_run=True, exact=True)) == ["e1"]
    desk.spool.failure = Damaged("hash is wrong")
    assert desk.ask("spool.export", ids=["e1"], exact=True) == [{"id": "e1", "damaged": "hash is wrong"}]
    for arguments in ({}, {"domain": "b.test"}):
        with pytest.raises(NotUnderstood):
            desk.ask("spool.export", **arguments)
    with pytest.raises(NotUnderstood):
        desk.ask("quarantine.export", ids=["e1"])


def test_a_failing_disk_is_told_and_on_record() -> None:
    desk = Desk(*MANY)
    desk.spool.failure = StorageFull("disk full")
    with pytest.raises(StorageFull):
        desk.ask("spool.delete", ids=["e1"])
    assert desk.journal.rows[-1][2]["not_written_yet"] == "disk full"
    assert desk.deliveries is not None and desk.deliveries.calls == [("changed", ["e1"])]


def test_many_entries_are_changed_in_several_commits() -> None:
    desk = Desk(*(entry(f"e{number}") for number in range(501)), live=False)
    assert len(desk.ask("spool.delete", older=0)) == 501
    assert [len(change.remove) for change in desk.spool.commits] == [BATCH, BATCH, 501 - 2 * BATCH]


@pytest.mark.parametrize("verb", ["release", "delete"])
def test_what_leaves_the_quarantine_meanwhile_is_no_longer_of_it(verb: str) -> None:
    turns = FakeTurns()
    desk = Desk(*(entry(f"e{number:03}", **QUARANTINED) for number in range(BATCH + 2)), clock=turns)
    answer = Deferred.fromCoroutine(desk.operations.perform(f"quarantine.{verb}", {"older": 0}, "ann (uid 7)"))
    released = desk.spool.kept["e200"] = entry("e200")
    while turns.waiting:
        ((call, words),) = turns.waiting
        turns.waiting = []
        call(*words)
    rows: list[Any] = []
    answer.addCallback(rows.extend)
    assert len(rows) == BATCH + 1 and desk.spool.kept["e200"] is released


@pytest.mark.parametrize("verb", ["force", "hold", "delete", "priority"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_however_many_are_changed_few_of_them_are_in_one_turn(verb: str, dry_run: bool) -> None:
    count = 2 * TURN + 1
    turns = FakeTurns()
    desk = Desk(*(entry(f"e{number:05}", received_at=NOW - number % 7) for number in range(count)), clock=turns)
    arguments = {"older": 0, "dry_run": dry_run} | ({"priority": 7} if verb == "priority" else {})
    answer = Deferred.fromCoroutine(desk.operations.perform(f"spool.{verb}", arguments, "ann (uid 7)"))
    recorded = []
    while turns.waiting:
        before = len(desk.journal.rows)
        ((call, words),) = turns.waiting
        turns.waiting = []
        call(*words)
        recorded.append(len(desk.journal.rows) - before)
    rows: list[Any] = []
    answer.addCallback(rows.extend)
    assert len(rows) == count and all(isinstance(row, str) for row in rows)
    assert sum(recorded) == (0 if dry_run else count) and max(recorded) <= BATCH
    assert len(recorded) >= count // BATCH + count // TURN


class FakeCollector:
    def __init__(self) -> None:
        self.resting = False
        self.frozen: list[bool] = []

    def disable(self) -> None:
        self.resting = True

    def collect(self, generation: int) -> None:
        assert self.resting and generation < 2

    def freeze(self) -> None:
        self.frozen.append(self.resting)

    def enable(self) -> None:
        self.resting = False


@pytest.mark.parametrize(
    ("count", "arguments", "failure", "frozen"),
    [
        (changing.MANY, {}, None, [True]),
        (changing.MANY, {}, StorageFull("disk full"), [True]),
        (changing.MANY, {"dry_run": True}, None, []),
        (changing.MANY - 1, {}, None, []),
    ],
)
def test_the_collector_rests_while_many_are_changed_and_never_longer(
    count: int,
    arguments: dict[str, Any],
    failure: Exception | None,
    frozen: list[bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    collector = FakeCollector()
    monkeypatch.setattr(changing, "gc", collector)
    desk = Desk(*(entry(f"e{number:04}") for number in range(count)), live=False)
    desk.spool.failure = failure
    with pytest.raises(StorageFull) if failure else contextlib.nullcontext():
        assert len(desk.ask("spool.hold", older=0, **arguments)) == count
    assert not collector.resting and collector.frozen == frozen


def test_show_gives_header_fields_and_a_bounded_printable_body_and_is_on_record() -> None:
    desk = Desk(entry("e1", hello="mx.example", peer_ip="192.0.2.7"))
    header = b"Subject: caf\xc3\xa9\r\n\tfolded\r\nTo: b@a.test\r\n\r\n"
    desk.spool.bodies["e1"] = b"skip\n" + header + b"red \x1b[31m\r\n" + b"x" * 9000
    (row,) = desk.ask("spool.show", ids=["me1"])
    assert row["headers"] == [["X-Spam-Level", "NONE"], ["Subject", "café folded"], ["To", "b@a.test"]]
    assert row["body_head"].startswith("red \N{REPLACEMENT CHARACTER}[31m\nxxx")
    assert (len(row["body_head"]), row["body_cut"]) == (BODY_HEAD - 1, True)
    assert (row["message_id"], row["peer_ip"], row["damaged"]) == ("me1", "192.0.2.7", None)
    assert desk.events() == [("shown", "me1")]


@pytest.mark.parametrize("failure", [Damaged("hash is wrong"), StorageFull("disk full")])
def test_show_tells_what_cannot_be_read(failure: Exception) -> None:
    desk = Desk(entry("e1"))
    desk.spool.failure = failure
    (row,) = desk.ask("spool.show", ids=["e1"])
    assert str(failure) in row["damaged"] and row["headers"] == []


def test_status_counts_by_state() -> None:
    (row,) = Desk(*MANY).ask("status")
    assert row["spool"] == {"active": 3, "held": 1, "quarantined": 1, "expired": 0}
    assert (row["running"], row["spool_octets"], row["oldest_seconds"]) == (True, 5000, 7200.0)
    assert row["primaries"] == [{"host": "127.0.0.1:25", "state": "closed"}] and row["claimed"] == 2
    (stopped,) = Desk(live=False).ask("status")
    assert (stopped["running"], stopped["primaries"], stopped["oldest_seconds"]) == (False, [], 0.0)


def test_every_question_is_in_the_log_when_detail_is_asked_for() -> None:
    desk = Desk(*MANY)
    desk.ask("spool.list", domain="a.test")
    assert desk.journal.rows == [
        ("asked", "", {"operation": "spool.list", "asked_by": "ann (uid 7)", "domain": "a.test"}, "debug")
    ]


@pytest.mark.parametrize(("limit", "expected"), [(1, ["e1"]), (2, ["e1", "e2"]), (9, ["e1", "e2", "e3"])])
def test_a_list_may_be_cut_to_the_oldest(limit: int, expected: list[str]) -> None:
    desk = Desk(*(entry(f"e{n}", received_at=NOW - 100 + n) for n in (3, 1, 2)))
    assert ids(desk.ask("spool.list", limit=limit)) == expected
    assert ids(desk.ask("quarantine.list", limit=limit)) == []


@pytest.mark.parametrize("limit", [0, -1, True, "5", 1.5])
def test_a_limit_is_a_whole_number(limit: Any) -> None:
    with pytest.raises(NotUnderstood):
        Desk(entry("e1")).ask("spool.list", limit=limit)
