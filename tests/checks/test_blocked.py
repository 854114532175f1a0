"""The lists' word on senders: what is matched at MAIL and at the final dot, and what proof trust needs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.checks import examined, tools
from fakes.lists import lists

from inboundmx.checks.api import Case
from inboundmx.checks.blocked import Blocked
from inboundmx.model.address import Address
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.message import Body, Message
from inboundmx.model.session import Session

SESSION = Session("s", "192.0.2.1", 25000, "192.0.2.25", 0.0, "mx.a.example")


def message(*fields: str) -> Message:
    head = "".join(f"{field}\r\n" for field in fields).encode("utf-8", "replace") + b"\r\nbody\r\n"
    return Message("m", Body(len(head), head, None, b""))


def said(sender: str, facts: str = "", author: str | None = None, **listed: str) -> Finding:
    """``facts``: "spf_mailfrom=a.example dkim=b.example"; ``author``: the From of the message, None: none has come."""
    local, _, domain = sender.rpartition("@")
    found = tuple((name, value) for name, _, value in (each.partition("=") for each in facts.split()))
    case = Case(
        SESSION,
        Envelope(Address(local, domain) if sender else None),
        message=None if author is None else message(f"From: {author}"),
        results=(CheckResult("spf", "spf", Stage.SENDER, Finding("pass", facts=found)),),
    )
    check = Blocked({}, replace(tools(), lists=lists(**listed)))
    return examined(check, case)


@pytest.mark.parametrize(
    ("sender", "facts", "outcome"),
    [
        ("x@bad.example", "", "blocked"),
        ("x@bad.example", "spf_mailfrom=bad.example", "blocked"),
        ("x@fine.example", "", "unlisted"),
        ("x@fine.example", "spf_helo=bad.example", "blocked"),
        ("x@fine.example", "spf_helo=mx.bad.example", "unlisted"),
        ("x@fine.example", "spf_helo=mx.worse.example", "blocked"),
        ("", "spf_helo=bad.example", "blocked"),
        ("", "", "unlisted"),
        ("x@fine.example", "spf_mailfrom=mail.example", "unlisted"),  # one of its senders is blocked, not all
        ("ann@mail.example", "", "blocked"),
        ("x@fine.example", "reverse=bad.example", "unlisted"),
    ],
)
def test_who_is_blocked_at_mail(sender: str, facts: str, outcome: str) -> None:
    found = said(sender, facts, blocked_senders="bad.example *.worse.example ann@mail.example")
    assert found.outcome == outcome
    assert bool(found.detail) is (outcome == "blocked")


@pytest.mark.parametrize(
    ("author", "facts", "outcome"),
    [
        ("x@bad.example", "", "unlisted"),  # anybody may write that
        ("x@bad.example", "dkim=bad.example", "blocked"),
        ("x@bad.example", "dkim=other.example", "unlisted"),
        ("x@fine.example", "dkim=bad.example", "blocked"),
        ("Ann <ann@mail.example>", "dkim=mail.example", "blocked"),
        ("Ann <ann@mail.example>", "dkim=sub.mail.example", "blocked"),
        ("Bob <bob@mail.example>", "dkim=mail.example", "unlisted"),
        ("Ann <ann@mail.example>", "dkim=other.example", "unlisted"),
        ("ann@mail.example, bob@fine.example", "dkim=mail.example", "unlisted"),
    ],
)
def test_who_is_blocked_at_the_final_dot(author: str, facts: str, outcome: str) -> None:
    listed = "bad.example ann@mail.example"
    assert said("x@fine.example", facts, author, blocked_senders=listed).outcome == outcome
    assert said("x@bad.example", facts, author, blocked_senders=listed).outcome == "blocked"


@pytest.mark.parametrize(
    ("facts", "author", "outcome"),
    [
        ("", None, "unlisted"),
        ("spf_helo=mx.partner.example", None, "unlisted"),
        ("spf_mailfrom=partner.example", None, "trusted"),
        ("spf_mailfrom=partner.example", "Boss <boss@partner.example>", "trusted"),
        ("spf_mailfrom=partner.example", "x@mail.partner.example", "trusted"),
        ("spf_mailfrom=partner.example", "boss@bank.example", "unlisted"),
        ("spf_mailfrom=partner.example", "boss@partner.example, ceo@bank.example", "unlisted"),
        ("spf_mailfrom=partner.example", "", "unlisted"),
        ("dkim=partner.example", "boss@partner.example", "trusted"),
        ("dkim=news.partner.example dkim_sender=partner.example", "boss@partner.example", "trusted"),
        ("dkim=other.example", "boss@partner.example", "unlisted"),
        ("", "boss@partner.example", "unlisted"),
    ],
)
def test_trust_needs_proof(facts: str, author: str | None, outcome: str) -> None:
    assert said("boss@partner.example", facts, author, trusted_senders="boss@partner.example").outcome == outcome


def test_an_author_is_trusted_whatever_envelope_a_list_of_his_writes() -> None:
    listed = {"trusted_senders": "news@shop.example"}
    bounces = "bounce-17@mailer.example"
    assert said(bounces, "spf_mailfrom=mailer.example", "news@shop.example", **listed).outcome == "unlisted"
    assert said(bounces, "dkim=shop.example", "Shop <news@shop.example>", **listed).outcome == "trusted"


def test_to_be_blocked_goes_before_to_be_trusted() -> None:
    listed = {"blocked_senders": "partner.example", "trusted_senders": "boss@partner.example"}
    for author in (None, "boss@partner.example"):
        assert said("boss@partner.example", "spf_mailfrom=partner.example", author, **listed).outcome == "blocked"


def test_the_entry_is_named() -> None:
    assert said("x@bad.example", blocked_senders="*@bad.example").detail == "sender is on the list: *@bad.example"
    found = said("x@a.example", "dkim=bad.example", "y@bad.example", blocked_senders="y@*")
    assert found.detail == "author is on the list: y@*"
