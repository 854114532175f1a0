"""The DMARC check: whose proof counts for whom, what odd authors come to, and what DNS trouble may not do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import authres
import dmarc as second_opinion
import pytest
from fakes.checks import FakeClock, begun, examined, tools
from fakes.resolver import FakeResolver
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.checks.api import Case, Tools
from inboundmx.checks.dmarc import Dmarc
from inboundmx.checks.dmarc_tree import QUESTIONS, SECONDS
from inboundmx.model.address import Address
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.message import Body, Message
from inboundmx.model.session import Session
from inboundmx.ports import Unavailable

SESSION = Session("s", "192.0.2.1", 25000, "192.0.2.25", 0.0, "mx.a.example")
SILENCE = Unavailable("silence")
REJECT = {"a.example": "p=reject"}


def zone(records: dict[str, Any]) -> dict[str, Any]:
    """``{"a.example": "p=reject"}`` as DNS has it; Unavailable stays what it is."""
    return {
        f"_dmarc.{name}": {"TXT": [f"v=DMARC1; {tags}"]} if isinstance(tags, str) else tags
        for name, tags in records.items()
    }


def said(kind: str, facts: str, outcome: str = "pass") -> CheckResult:
    """``facts``: "spf_mailfrom=a.example dkim=b.example"."""
    found = tuple((name, value) for name, _, value in (each.partition("=") for each in facts.split()))
    return CheckResult(kind, kind, Stage.MESSAGE, Finding(outcome, facts=found))


def case(
    author: str = "ann@a.example",
    spf: str = "",
    dkim: str = "",
    *more: CheckResult,
    sender: str = "x.example",
    head: str = "",
) -> Case:
    """``spf`` and ``dkim``: the domains that passed; ``more`` results take the place of those of the same kind."""
    octets = (head or f"From: {author}\r\n").encode() + b"\r\nHello.\r\n"
    results = [
        said("spf", " ".join(f"spf_mailfrom={name}" for name in spf.split())),
        said("dkim", " ".join(f"dkim={name}" for name in dkim.split())),
    ]
    kinds = {each.kind for each in more}
    kept = [each for each in results if each.kind not in kinds]
    return Case(
        SESSION,
        Envelope(Address("x", sender) if sender else None),
        message=Message("m", Body(len(octets), octets, None, b"")),
        results=(*kept, *more),
    )


def found(given: Case, records: dict[str, Any] | FakeResolver = REJECT) -> Finding:
    return examined(Dmarc({}, tools(records if isinstance(records, FakeResolver) else zone(records))), given)


# --- one author -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "author", "spf", "dkim", "outcome", "clause"),
    [
        (REJECT, "a.example", "a.example", "", "pass", "dmarc=pass (p=reject) header.from=a.example"),
        (REJECT, "a.example", "", "a.example", "pass", "dmarc=pass (p=reject) header.from=a.example"),
        (REJECT, "a.example", "", "", "fail_reject", "dmarc=fail (p=reject) header.from=a.example"),
        (REJECT, "a.example", "b.example", "b.example", "fail_reject", "dmarc=fail (p=reject) header.from=a.example"),
        ({"a.example": "p=quarantine"}, "a.example", "", "", "fail_quarantine",
         "dmarc=fail (p=quarantine) header.from=a.example"),
        ({"a.example": "p=none"}, "a.example", "", "", "fail_none", "dmarc=fail (p=none) header.from=a.example"),
        ({}, "a.example", "a.example", "a.example", "none", "dmarc=none header.from=a.example"),
        ({"a.example": "p=deny"}, "a.example", "a.example", "", "permerror",
         "dmarc=permerror (the record of a.example cannot be used) header.from=a.example"),
        # Relaxed alignment, by the records above both.
        (REJECT, "a.example", "bounce.a.example", "", "pass", "dmarc=pass (p=reject) header.from=a.example"),
        (REJECT, "m.a.example", "", "n.a.example", "pass", "dmarc=pass (p=reject) header.from=m.a.example"),
        (REJECT, "m.a.example", "", "a.example", "pass", "dmarc=pass (p=reject) header.from=m.a.example"),
        (REJECT, "a.example", "nota.example", "nota.example", "fail_reject",
         "dmarc=fail (p=reject) header.from=a.example"),
        (REJECT | {"m.a.example": "p=none; psd=n"}, "a.example", "m.a.example", "", "fail_reject",
         "dmarc=fail (p=reject) header.from=a.example"),
        (REJECT | {"m.a.example": "p=none; psd=n"}, "m.a.example", "a.example", "", "fail_none",
         "dmarc=fail (p=none) header.from=m.a.example"),
        ({"gov.example": "p=reject; psd=y"}, "a.gov.example", "b.gov.example", "", "fail_reject",
         "dmarc=fail (p=reject) header.from=a.gov.example"),
        ({"gov.example": "p=reject; psd=y"}, "m.a.gov.example", "n.a.gov.example", "", "pass",
         "dmarc=pass (p=reject) header.from=m.a.gov.example"),
        # Strict alignment, each method by its own tag.
        ({"a.example": "p=reject; aspf=s"}, "a.example", "m.a.example", "", "fail_reject",
         "dmarc=fail (p=reject) header.from=a.example"),
        ({"a.example": "p=reject; aspf=s"}, "a.example", "", "m.a.example", "pass",
         "dmarc=pass (p=reject) header.from=a.example"),
        ({"a.example": "p=reject; adkim=s"}, "a.example", "", "m.a.example", "fail_reject",
         "dmarc=fail (p=reject) header.from=a.example"),
        ({"a.example": "p=reject; adkim=s; aspf=s"}, "a.example", "", "b.example a.example", "pass",
         "dmarc=pass (p=reject) header.from=a.example"),
        # Subdomains, and names that are not there.
        ({"a.example": "p=reject; sp=none"}, "m.a.example", "", "", "fail_none",
         "dmarc=fail (sp=none) header.from=m.a.example"),
        ({"a.example": "p=none; sp=none; np=reject"}, "m.a.example", "", "", "fail_reject",
         "dmarc=fail (np=reject) header.from=m.a.example"),
        ({"a.example": "p=none; np=reject"}, "here.a.example", "", "", "fail_none",
         "dmarc=fail (p=none) header.from=here.a.example"),
        ({"a.example": "p=none; np=reject"}, "a.example", "", "", "fail_none",
         "dmarc=fail (p=none) header.from=a.example"),
        ({"a.example": "p=none; np=reject", "x.y.a.example": "p=none"}, "y.a.example", "", "", "fail_none",
         "dmarc=fail (p=none) header.from=y.a.example"),
        # t=y: one step less.
        ({"a.example": "p=reject; t=y"}, "a.example", "", "", "fail_quarantine",
         "dmarc=fail (p=reject t=y) header.from=a.example"),
        ({"a.example": "p=none; sp=quarantine; t=y"}, "m.a.example", "", "", "fail_none",
         "dmarc=fail (sp=quarantine t=y) header.from=m.a.example"),
    ],
)  # fmt: skip
def test_one_author(records: Any, author: str, spf: str, dkim: str, outcome: str, clause: str) -> None:
    resolver = FakeResolver(zone(records) | {"here.a.example": {"MX": [(10, "mx.a.example")]}})
    finding = found(case(f"Ann <ann@{author}>", spf, dkim), resolver)
    assert (finding.outcome, finding.authentication) == (outcome, clause)
    assert len(resolver.asked) == len(set(resolver.asked)), "nothing is asked twice"


def test_what_usual_mail_costs_is_one_question() -> None:
    resolver = FakeResolver(zone(REJECT))
    assert found(case(dkim="b.example a.example"), resolver).outcome == "pass"
    assert resolver.asked == [("_dmarc.a.example", "TXT")]


def test_the_helo_name_counts_for_mail_without_a_sender_alone() -> None:
    helo = said("spf", "spf_helo=a.example")
    assert found(case("ann@a.example", "", "", helo)).outcome == "fail_reject"
    assert found(case("ann@a.example", "", "", helo, sender="")).outcome == "pass"


def test_the_detail_says_by_what() -> None:
    assert found(case(dkim="m.a.example")).detail == "pass for a.example; by dkim m.a.example"
    assert found(case("x@m.a.example")).detail == "fail_reject for m.a.example; nothing aligned, p=reject of a.example"


# --- odd authors ------------------------------------------------------------------------------------------------------

BANK = REJECT | {"bank.example": "p=reject", "soft.example": "p=quarantine", "lax.example": "p=none"}


@pytest.mark.parametrize(
    ("author", "proven", "outcome", "domain"),
    [
        # Two of them: the strictest of the policies, and a pass only where all authenticated.
        ("eve@a.example, boss@bank.example", "a.example", "fail_reject", "bank.example"),
        ("eve@a.example, boss@soft.example", "a.example", "fail_quarantine", "soft.example"),
        ("eve@a.example, x@lax.example, boss@soft.example", "a.example", "fail_quarantine", "soft.example"),
        ("eve@a.example, x@lax.example", "a.example", "fail_none", "lax.example"),
        ("eve@a.example, x@nowhere.example", "a.example", "none", "nowhere.example"),
        ("eve@a.example, boss@bank.example", "a.example bank.example", "pass", "a.example"),
        ("eve@a.example, bob@a.example", "a.example", "pass", "a.example"),
        ("a@bank.example, <c@a.example>", "a.example", "fail_reject", "bank.example"),
        ("boss@bank.example <eve@a.example>", "a.example", "fail_reject", "bank.example"),
        # Groups, addresses in encoded words and in quotes.
        ("Bank: boss@bank.example;", "a.example", "fail_reject", "bank.example"),
        ("Bank: boss@bank.example;", "bank.example", "permerror", "bank.example"),
        ("=?utf-8?q?boss=40bank.example?= <eve@a.example>", "a.example", "permerror", "a.example"),
        ("=?utf-8?b?Ym9zc0BiYW5rLmV4YW1wbGU=?=", "a.example", "fail_reject", "bank.example"),
        ('"boss@bank.example" <eve@a.example>', "a.example", "pass", "a.example"),
        ('"boss@bank.example <boss@bank.example>," <eve@a.example>', "", "fail_reject", "a.example"),
        # NUL, comments, folds, nothing at all.
        ("boss@bank.example\x00 <eve@a.example>", "a.example", "fail_reject", "bank.example"),
        ("boss@bank.example(,<eve@a.example>)", "a.example", "fail_reject", "bank.example"),
        ("\r\n boss@bank.example", "a.example", "fail_reject", "bank.example"),
        ("boss", "a.example", "permerror", ""),
        ("<>", "a.example", "permerror", ""),
        ("", "a.example", "permerror", ""),
    ],
)  # fmt: skip
def test_odd_authors_never_pass_for_somebody_else(author: str, proven: str, outcome: str, domain: str) -> None:
    finding = found(case(author, proven, proven), BANK)
    assert finding.outcome == outcome
    read = authres.AuthenticationResultsHeader.parse(f"Authentication-Results: mx.example; {finding.authentication}")
    (result,) = read.results
    assert [each.value for each in result.properties] == ([domain] if domain else [])
    assert (result.result == "pass") == (outcome == "pass")


@pytest.mark.parametrize(
    ("head", "outcome"),
    [
        ("From: eve@a.example\r\nFrom: boss@bank.example\r\n", "fail_reject"),
        ("From: boss@bank.example\r\nFrom: eve@a.example\r\n", "fail_reject"),
        ("From: eve@a.example\r\nFrom: eve@a.example\r\n", "permerror"),
        ("From : boss@bank.example\r\n", "fail_reject"),
        (" From: boss@bank.example\r\nFrom: eve@a.example\r\n", "fail_reject"),
        ("From\x00: boss@bank.example\r\nFrom: eve@a.example\r\n", "fail_reject"),
        ("From: eve@a.example\r\nno field\r\nFrom: boss@bank.example\r\n", "fail_reject"),
        ("From: eve@a.example\r\nno field\r\n", "permerror"),
        ("Subject: no From\r\n", "permerror"),
        ("\r\n", "permerror"),
    ],
)
def test_odd_headers_never_pass(head: str, outcome: str) -> None:
    assert found(case(dkim="a.example", head=head), BANK).outcome == outcome


@given(
    st.lists(
        st.sampled_from(
            ["boss@bank.example", "eve@a.example", "<", ">", '"', "(", ")", ",", ":", ";", "\\", " ", "\x00", "\r\n ",
             "\r\nFrom: ", "\r\n From: ", "\r\nno field\r\n", "=?utf-8?q?", "=40bank.example", "?=", "@"]
        ),
        max_size=9,
    ).map("".join)
)  # fmt: skip
def test_nothing_passes_for_a_domain_that_did_not_authenticate(text: str) -> None:
    finding = found(case(head=f"From: {text}\r\n", dkim="a.example"), BANK)
    assert finding.outcome in Dmarc.outcomes
    clause = finding.authentication
    assert "dmarc=pass" not in clause or clause == "dmarc=pass (p=reject) header.from=a.example"
    assert clause.isprintable() and clause.count("dmarc=") == 1


# --- DNS trouble, and what was not asked ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "author", "dkim", "outcome"),
    [
        ({"a.example": SILENCE}, "a.example", "a.example", "temperror"),
        ({"a.example": SILENCE}, "m.a.example", "m.a.example", "temperror"),
        ({"m.a.example": SILENCE}, "m.a.example", "m.a.example", "temperror"),
        # What is not needed may be missing.
        (REJECT | {"example": SILENCE}, "a.example", "a.example", "pass"),
        (REJECT | {"m.a.example": "p=reject; psd=n", "example": SILENCE}, "m.a.example", "m.a.example", "pass"),
        (REJECT | {"m.a.example": SILENCE}, "a.example", "m.a.example", "temperror"),
        (REJECT | {"m.a.example": SILENCE}, "a.example", "b.example", "fail_reject"),
        (REJECT | {"m.a.example": SILENCE}, "a.example", "m.a.example n.a.example", "pass"),
    ],
)
def test_dns_trouble_is_temporary_where_it_matters(records: Any, author: str, dkim: str, outcome: str) -> None:
    assert found(case(f"ann@{author}", "", dkim), records).outcome == outcome


def test_a_name_that_may_not_be_there_is_asked_about() -> None:
    records = zone({"a.example": "p=none; np=reject"}) | {"m.a.example": SILENCE}
    assert found(case("ann@m.a.example"), FakeResolver(records)).outcome == "temperror"


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (said("spf", "spf_mailfrom_temperror=a.example", "temperror"), "temperror"),
        (said("spf", "spf_mailfrom_temperror=m.a.example", "temperror"), "temperror"),
        (said("spf", "spf_mailfrom_temperror=evil.example", "temperror"), "fail_reject"),
        (said("spf", "spf_helo_temperror=a.example", "none"), "fail_reject"),
        (said("dkim", "dkim_temperror=a.example", "temperror"), "temperror"),
        (said("dkim", "dkim_temperror=evil.example", "temperror"), "fail_reject"),
        (said("dkim", "dkim_temperror=a.example dkim=a.example"), "pass"),
        (said("dkim", "", "error"), "temperror"),
        (said("spf", "", "timeout"), "temperror"),
        (said("arc", "", "error"), "temperror"),
        (said("arc", "", "timeout"), "fail_reject"),
        (said("arc", "", "fail"), "fail_reject"),
    ],
)
def test_an_answer_that_is_missing_is_no_failure(result: CheckResult, outcome: str) -> None:
    assert found(case("ann@a.example", "", "", result)).outcome == outcome


@pytest.mark.parametrize(("asked", "missing"), [("", "SPF and DKIM"), ("spf", "DKIM"), ("dkim", "SPF")])
def test_what_was_not_asked_is_no_failure(asked: str, missing: str) -> None:
    given = case()
    results = tuple(each for each in given.results if each.kind == asked)
    finding = found(replace(given, results=results))
    assert finding.outcome == "none" and finding.detail.endswith(f"; {missing} not asked")
    passing = case("ann@a.example", "a.example", "a.example")
    kept = tuple(each for each in passing.results if each.kind == asked)
    assert found(replace(passing, results=kept)).outcome == ("pass" if asked else "none")


def test_answers_that_do_not_come_are_waited_for_so_long() -> None:
    given: Tools = tools(FakeResolver(zone(REJECT), holding=True))
    resolver, clock = given.resolver, given.clock
    assert isinstance(resolver, FakeResolver) and isinstance(clock, FakeClock)
    came, waiting = begun(Dmarc({}, given), case())
    assert waiting is not None
    clock.task.advance(SECONDS)
    assert came[0].outcome == "temperror"
    assert all(held.called for held in resolver._held)
    assert clock.task.getDelayedCalls() == []


# --- how much is asked ------------------------------------------------------------------------------------------------


def test_sixty_labels_are_eight_questions() -> None:
    long = "x." * 60 + "a.example"
    resolver = FakeResolver(zone(REJECT))
    assert found(case(f"ann@{long}"), resolver).outcome == "fail_reject"
    assert len(resolver.asked) == 8
    resolver = FakeResolver(zone(REJECT))
    assert found(case("ann@a.example", "", long), resolver).outcome == "pass"
    assert len(resolver.asked) <= 9


def test_nobody_makes_us_ask_without_end() -> None:
    """Five authors of nine labels each, and ten signatures of other names of theirs."""
    deep = "b.c.d.e.f.g.h"
    authors = ", ".join(f"x@a.{deep}.d{number}.example" for number in range(5))
    signed = " ".join(f"s{number}.{number}.{deep}.d{number % 5}.example" for number in range(10))
    records = {f"d{number}.example": "p=reject; np=none" for number in range(5)}
    resolver = FakeResolver(zone(records))
    found(case(authors, "", signed), resolver)
    assert len(resolver.asked) <= QUESTIONS + 8 + 5


# --- a second opinion -------------------------------------------------------------------------------------------------


class _TwoLabels:
    def get_public_suffix(self, name: str) -> str:
        return ".".join(name.split(".")[-2:])


NAMES = st.sampled_from(["a.example", "m.a.example", "n.m.a.example", "b.example"])
TAGS = st.fixed_dictionaries(
    {"p": st.sampled_from(["none", "quarantine", "reject", "Reject"])},
    optional={
        "sp": st.sampled_from(["none", "quarantine", "reject"]),
        "adkim": st.sampled_from("rs"),
        "aspf": st.sampled_from("rs"),
        "t": st.sampled_from("yn"),
    },
)


@settings(max_examples=200)
@given(st.sampled_from(["a.example", "m.a.example"]), st.none() | NAMES, st.none() | NAMES, TAGS)
def test_a_second_opinion_agrees(author: str, spf: str | None, dkim: str | None, tags: dict[str, str]) -> None:
    record = "; ".join(f"{name}={value}" for name, value in tags.items())
    finding = found(case(f"ann@{author}", spf or "", dkim or ""), {"a.example": record})

    judge = second_opinion.DMARC(_TwoLabels())
    policy = judge.parse_record(f"v=DMARC1; {record}", author, None if author == "a.example" else "a.example")
    result = judge.get_result(
        policy,
        second_opinion.SPF(spf, second_opinion.SPFResult.PASS) if spf else None,
        second_opinion.DKIM(dkim, second_opinion.DKIMResult.PASS) if dkim else None,
        allow_policy_test_mode=True,
    )
    passed = result.result is second_opinion.DMARCResult.PASS
    assert finding.outcome == ("pass" if passed else f"fail_{result.disposition.value}")
