"""Outgoing mail: checks and a threshold of its own, and a word to the user whose mail was stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gate import ANN, MAIL, SESSION, SPAM, Gate, body

from inboundmx.app.settings import load
from inboundmx.checks.ratelimit import RateLimit
from inboundmx.model.address import Address
from inboundmx.model.custody import SpoolEntry, State
from inboundmx.model.envelope import Envelope
from inboundmx.model.session import Session
from inboundmx.policy.listing import Listing, written_entries
from inboundmx.policy.notices import may_notify

FAR = Address("far", "far.example")
USER = replace(SESSION, authenticated_as="ann@a.example")
DOMAIN = "[gateway]\nhostname = mx.example.net\n[domain a.example]\nprimary = 192.0.2.10\nrecipients = any\n"
NOTICE = "[blocking]\noutgoing_notice = yes\n"
PILLS = "[check pills]\nuse = headers\nheader = Subject\nvalue = pills\n"


def gate(folder: Path, text: str, session: Session = USER) -> Gate:
    path = folder / "in.ini"
    path.write_text(DOMAIN + text)
    return Gate(load(str(path)), session)


def entry(gate: Gate, recipient: Address) -> SpoolEntry:
    (found,) = (e for e in gate.spool.entries() if recipient in [r.address for r in e.recipients] and not e.notice)
    return found


def letters(gate: Gate) -> list[tuple[str, str]]:
    """To whom, and what is in them."""
    return [
        (str(d.entry.recipients[0].address), d.content.body.head.decode())
        for change in gate.spool.commits
        for d in change.add
        if d.entry.notice
    ]


@pytest.mark.parametrize(
    ("direction", "here", "far"),
    [("", "match(30)", "match(30)"), ("both", "match(30)", "match(30)"), ("incoming", "match(30)", "none"),
     ("outgoing", "none", "match(30)")],
)  # fmt: skip
def test_each_way_has_checks_of_its_own(tmp_path: Path, direction: str, here: str, far: str) -> None:
    action = "weight.match = 30\n[level high]\naction = quarantine\n"
    made = gate(tmp_path, PILLS + f"for = {direction}\n" + action)
    assert made.send(SPAM, ANN, FAR, sender=ANN).code == 250
    states = {"match(30)": State.QUARANTINED, "none": State.ACTIVE}
    assert (entry(made, ANN).state, entry(made, FAR).state) == (states[here], states[far])


@pytest.mark.parametrize(
    ("direction", "stranger", "user"), [("", 1, 1), ("both", 1, 1), ("incoming", 1, 0), ("outgoing", 0, 1)]
)
def test_before_the_message_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direction: str, stranger: int, user: int
) -> None:
    asked: list[str] = []

    async def examine(_: Any, case: Any) -> Any:
        asked.append(case.session.authenticated_as)
        raise RuntimeError("enough is known")

    monkeypatch.setattr(RateLimit, "examine", examine)
    text = f"[check rate]\nuse = ratelimit\nlimit = 5\nwindow = 1h\nby = address\nfor = {direction}\n"
    for session, recipient, times in ((SESSION, ANN, stranger), (USER, FAR, user)):
        asked.clear()
        made = gate(tmp_path, text, session)
        made.envelope(recipient, sender=ANN)
        assert len(asked) == times


def test_the_threshold_for_outgoing_mail_refuses_at_rcpt(tmp_path: Path) -> None:
    """What was seen of the user counts for those abroad, and is asked of them alone."""
    lists = "[lists]\nblocked_senders = s@b.example\n"
    check = "[check senders]\nuse = blocked\nfor = outgoing\ncounts_for = blocking\nweight.blocked = 12\n"
    made = gate(tmp_path, lists + check + "[blocking]\noutgoing_threshold = 12\noutgoing_notice = yes\n")
    made = Gate(made.settings, USER, Listing(e for _, e in written_entries(made.settings.lists)))
    assert made.ask(made.conversation.mail(Envelope(Address("s", "b.example")))).code == 250
    assert made.ask(made.conversation.recipient(FAR)).code == 554
    assert made.ask(made.conversation.recipient(Address("postmaster", "far.example"))).code == 554
    assert made.ask(made.conversation.recipient(ANN)).code == 250
    ((to, text),) = letters(made)
    assert to == "ann@a.example" and "far@far.example was refused" in text.replace("\r\n", " ")


SENT = PILLS + "weight.match = reject\n"


def test_whose_mail_is_refused_hears_of_it_at_his_own_mailbox(tmp_path: Path) -> None:
    made = gate(tmp_path, NOTICE + SENT)
    assert made.send(SPAM, FAR, sender=ANN).code == 554
    ((to, text),) = letters(made)
    told = text.replace("\r\n", " ")
    assert to == "ann@a.example"
    assert "far@far.example was refused, and nothing of it was sent." in told
    assert "554 5.7.1 message refused by check pills" in told and "buy" not in text
    assert made.journal.events[-1][0] == "outgoing_notice_written"
    (written,) = (e for e in made.spool.entries() if e.notice)
    assert (written.sender, written.domain, written.via) == (None, "a.example", "")
    assert written.recipients[0].notify == "NEVER"
    assert not may_notify("always", written.sender, True, "none", True), "and nobody is told when that fails"


def test_whose_mail_is_kept_hears_of_it(tmp_path: Path) -> None:
    made = gate(tmp_path, NOTICE + PILLS + "weight.match = 30\n[level high]\naction = hold\n")
    assert made.send(SPAM, FAR, sender=ANN).code == 250
    ((_, text),) = letters(made)
    assert "was not sent: it is kept for an operator" in text.replace("\r\n", " ")


@pytest.mark.parametrize(
    ("user", "text", "content", "recipient"),
    [
        ("ann@a.example", "", SPAM, FAR),
        ("ann", NOTICE, SPAM, FAR),
        ("ann@elsewhere.example", NOTICE, SPAM, FAR),
        ("ann @a.example", NOTICE, SPAM, FAR),
        ("", NOTICE, SPAM, ANN),
        ("ann@a.example", NOTICE, MAIL, FAR),
        ("ann@a.example", NOTICE, SPAM, ANN),
    ],
    ids=["not asked for", "no address", "not ours", "no mailbox", "a stranger", "nothing is wrong", "not outgoing"],
)
def test_nobody_else_is_written_to(
    tmp_path: Path, user: str, text: str, content: bytes, recipient: Address
) -> None:
    made = gate(tmp_path, text + SENT, replace(SESSION, authenticated_as=user))
    made.send(content, recipient, sender=ANN)
    assert letters(made) == []


def test_mail_that_is_put_off_is_nobodys_loss(tmp_path: Path) -> None:
    made = gate(tmp_path, NOTICE + PILLS + "weight.match = defer\n")
    assert made.send(SPAM, FAR, sender=ANN).code == 451
    assert letters(made) == []


def test_there_are_few_of_them(tmp_path: Path) -> None:
    made = gate(tmp_path, NOTICE + SENT)
    for _ in range(13):
        assert made.send(SPAM, FAR, sender=ANN).code == 554
        made.conversation.reset()
    assert len(letters(made)) == 10


def test_each_recipient_of_a_user_hears_his_own_and_the_user_of_those_who_were_refused(tmp_path: Path) -> None:
    made = gate(tmp_path, NOTICE + SENT + "for = outgoing\n")
    assert made.ask(made.conversation.mail(Envelope(ANN), prdr=True)).code == 250
    for recipient in (FAR, ANN):
        assert made.ask(made.conversation.recipient(recipient)).code == 250
    made.conversation.draft()
    said = made.ask(made.conversation.content(body(SPAM)))
    assert [reply.code for reply in said.each] == [554, 250]
    ((_, text),) = letters(made)
    assert "far@far.example was refused" in text.replace("\r\n", " ")
