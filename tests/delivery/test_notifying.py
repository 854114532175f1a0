"""Notices as entries of the spool: where they go, what they quote, and what is told of them."""

from __future__ import annotations

from dataclasses import replace
from email import message_from_bytes
from itertools import count

import pytest
from delivery_fakes import ANN, BOB, CONTENT, FIRST, OK, body, domain, entry, settings
from fakes.journal import FakeJournal

from inboundmx.delivery.notifying import deposits_of
from inboundmx.delivery.telling import tell
from inboundmx.model.address import Address
from inboundmx.model.custody import Content, DeliveryAttempt, Deposit, Host, Phase, SpoolEntry, SpoolRecipient, State
from inboundmx.model.message import SMALL_BODY
from inboundmx.model.reply import Reply
from inboundmx.model.settings import DeliverySettings, DomainSettings, PrioritySettings, Settings
from inboundmx.policy.notices import MESSAGE_LIMIT
from inboundmx.policy.retrying import Settlement, settle

NOW = 1_800_000_000.0
NO, LATER = Reply(550, "5.1.1", "nobody of that name"), Reply(450, "4.2.0", "later")
LMTP = Host("192.0.2.10", 24, "lmtp")
HOME = DomainSettings("b.example", priority=7)


def asking(**wishes: str) -> SpoolEntry:
    recipients = tuple(SpoolRecipient(Address(name, "a.example"), notify=wish) for name, wish in wishes.items())
    return replace(entry(may_notify=True), recipients=recipients)


def ended(before: SpoolEntry, *replies: Reply, host: Host = FIRST, dsn: bool = False, at: float = NOW) -> tuple[
    Settlement, DeliveryAttempt
]:  # fmt: skip
    answers = tuple(zip([r.address for r in before.recipients], replies, strict=True))
    attempt = DeliveryAttempt(host, at, at, Phase.DOT, answers, "", "", True, dsn)
    return settle(before, attempt, at, domain(), DeliverySettings(delay_notice=3600.0), slot=True, jitter=0.0), attempt


def deposits(
    before: SpoolEntry,
    settlement: Settlement,
    attempt: DeliveryAttempt | None,
    content: Content = CONTENT,
    having: Settings | None = None,
) -> tuple[Deposit, ...]:
    ids = count(1)
    made = having or settings(domain(), HOME)
    return deposits_of(before, settlement, attempt, domain(), content, made, NOW, lambda: f"n{next(ids)}")


def test_a_notice_goes_by_the_senders_own_route_and_is_answered_by_nobody() -> None:
    (deposit,) = deposits(asking(ann=""), *ended(asking(ann=""), NO))
    notice = deposit.entry
    assert (notice.sender, notice.notice, notice.state, notice.next_attempt_at) == (None, True, State.ACTIVE, NOW)
    assert (notice.domain, notice.via, notice.priority) == ("b.example", "", 7)
    assert notice.recipients == (SpoolRecipient(Address("s", "b.example"), notify="NEVER"),)
    assert (notice.ret, notice.envid, notice.may_notify) == ("", "", False)


def test_a_notice_to_a_stranger_leaves_us_and_notices_may_have_a_priority_of_their_own() -> None:
    having = replace(settings(domain()), priority=PrioritySettings(null_sender=2))
    (deposit,) = deposits(asking(ann=""), *ended(asking(ann=""), NO), having=having)
    assert (deposit.entry.domain, deposit.entry.via, deposit.entry.priority) == ("b.example", "outbound", 2)


@pytest.mark.parametrize(
    ("host", "dsn", "actions"),
    [(FIRST, False, ["relayed"]), (LMTP, False, ["delivered"]), (FIRST, True, []), (LMTP, True, [])],
)
def test_success_is_told_where_no_host_further_on_will(host: Host, dsn: bool, actions: list[str]) -> None:
    before = asking(ann="SUCCESS", bob="")
    made = deposits(before, *ended(before, OK, OK, host=host, dsn=dsn))
    groups = [message_from_bytes(each.content.body.head).get_payload()[1].get_payload() for each in made]  # type: ignore[index, union-attr]
    assert [[group["Action"] for group in each[1:]] for each in groups] == [[action] for action in actions]
    assert [each[1]["Final-Recipient"] for each in groups] == ["rfc822; ann@a.example"] * len(actions)


def test_each_kind_of_news_is_a_notice_and_a_record_of_its_own() -> None:
    late = NOW + 2 * 3600
    before = replace(asking(ann="SUCCESS", bob="", eve="", zoe="NEVER"), next_attempt_at=late)
    settlement, attempt = ended(before, OK, NO, LATER, NO, at=late)
    made = deposits(before, settlement, attempt)
    heads = [each.content.body.head for each in made]
    for head, action, name in zip(heads, (b"failed", b"delayed", b"relayed"), (b"bob", b"eve", b"ann"), strict=True):
        assert b"\r\nAction: " + action + b"\r\n" in head
        assert b"Final-Recipient: rfc822; " + name in head
        assert head.count(b"Final-Recipient") == 1
    journal = FakeJournal()
    tell(journal, before, settlement, attempt, made)
    notices = ("bounced", "delay_notified", "success_notified")
    assert [(event, fields["notice"]) for event, _, fields, _ in journal.events if event in notices] == [
        ("bounced", "n1"),
        ("delay_notified", "n2"),
        ("success_notified", "n3"),
    ]
    failed = {fields["recipients"][0]: fields["fate"] for event, _, fields, _ in journal.events if event == "failed"}
    assert failed == {"bob@a.example": "notify", "zoe@a.example": "dropped"}


def test_a_success_that_may_not_be_told_is_on_record() -> None:
    before = replace(asking(ann="SUCCESS", bob=""), may_notify=False)
    settlement, attempt = ended(before, OK, OK)
    assert deposits(before, settlement, attempt) == ()
    journal = FakeJournal()
    tell(journal, before, settlement, attempt, ())
    assert [(event, fields.get("untold")) for event, _, fields, _ in journal.events] == [
        ("delivered", ["ann@a.example"])
    ]


@pytest.mark.parametrize(
    ("octets", "prefix", "whole"),
    [
        (b"Subject: x\r\n\r\nhello\r\n", b"Received: here\r\n", True),
        (b"Subject: x\r\n\r\n" + b"hello\r\n" * 9000, b"", True),
        (b"Subject: x\r\n\r\n" + b"hello\r\n" * (MESSAGE_LIMIT // 7), b"Received: here\r\n", False),
        (b"Subject: x\r\n\r\n" + b"hello\r\n" * (SMALL_BODY // 7 + 1), b"", False),
    ],
)
def test_the_whole_message_is_returned_up_to_a_limit(octets: bytes, prefix: bytes, whole: bool) -> None:
    before = replace(asking(ann=""), ret="FULL")
    content = Content(prefix + b"X-Ours: y\r\n", 0, body(octets))
    (deposit,) = deposits(before, *ended(before, NO), content=content)
    head = deposit.content.body.head
    assert (prefix + b"X-Ours: y\r\n" + octets in head) is whole
    assert (b"hello" in head) is whole
    assert (b"Only its header section" in head) is not whole
    assert b"X-Ours: y\r\n" in head


def test_what_is_skipped_of_a_body_is_not_returned() -> None:
    before = replace(asking(ann=""), ret="FULL")
    content = Content(b"X-Ours: y\r\n", 12, body(b"X-Old: xyz\r\nSubject: x\r\n\r\nhello\r\n"))
    (deposit,) = deposits(before, *ended(before, NO), content=content)
    assert b"X-Ours: y\r\nSubject: x\r\n\r\nhello\r\n" in deposit.content.body.head
    assert b"X-Old" not in deposit.content.body.head


def test_what_waits_for_an_operator_is_deposited_before_notices() -> None:
    before = replace(asking(ann="", bob=""), may_notify=False)
    settlement, attempt = ended(before, NO, LATER)
    (deposit,) = deposits(before, settlement, attempt)
    assert (deposit.entry.id, deposit.entry.state, [r.address for r in deposit.entry.pending]) == (
        "n1",
        State.HELD,
        [ANN],
    )
    assert settlement.entry is not None
    assert [r.address for r in settlement.entry.pending] == [BOB]
