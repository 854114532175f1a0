"""Stamps: well formed whatever a stranger says; forgeries go, everything else stays byte for byte."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.model.address import Address
from inboundmx.model.custody import Content
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.message import Body, Message
from inboundmx.model.session import Session
from inboundmx.model.settings import GatewaySettings, Settings
from inboundmx.model.verdict import Action, Level, Score, ScoreLine, Verdict
from inboundmx.policy.stamping import checks_against, count_received, host_name, protocol_word, stamp

NOW = 1_700_000_000.5
OURS = Settings(
    gateway=GatewaySettings(hostname="mx1.example.net", hostnames={"192.0.2.26": "mx2.example.org"}),
)
SESSION = Session(
    "s", "192.0.2.1", 25000, "192.0.2.25", NOW, hello="client.example", extended=True, reverse_name="rev.example"
)
CLEAN = Verdict(Level.NONE, (Action("deliver"),), Score(0.0, 0.0))
PLAIN = b"From: a@example.test\r\nSubject: hello\r\n\r\nbody\r\n"
# A field or a fold of one: what every line of a header section is.
LINE = re.compile(rb"(?:[!-9;-~]+:[ \t]?|\t)[ -~]*")


def message(content: bytes) -> Message:
    return Message("id5678901234567", Body(len(content), content, None, b""))


def stamped(
    content: bytes = PLAIN,
    session: Session = SESSION,
    verdict: Verdict = CLEAN,
    clauses: tuple[str, ...] = (),
    to: Address | None = None,
    envelope: Envelope = Envelope(None),  # noqa: B008 - a frozen value
) -> Content:
    results = [CheckResult("c", "spf", Stage.SENDER, Finding("pass", "", clause)) for clause in clauses]
    return stamp(message(content), session, envelope, verdict, results, OURS, NOW, to)


def sent(content: Content) -> bytes:
    return content.prefix + content.body.head[content.skip :]


def doing(*actions: Action) -> Verdict:
    return Verdict(Level.LOW, actions, Score(10.0, 0.0))


def below_stamps(content: Content) -> bytes:
    """What is transmitted, without the five fields of ours at the top."""
    _, _, rest = sent(content).partition(b"X-Spam-Checks: none\r\n")
    return rest


def test_the_usual_stamps() -> None:
    lines = (
        ScoreLine("spamhaus", "listed", 15.0),
        ScoreLine("spf", "softfail", 2.5),
        ScoreLine("grey", "new", "defer"),
    )
    verdict = Verdict(Level.MEDIUM, (), Score(17.5, 0.0, lines))
    clauses = ("spf=pass smtp.mailfrom=a.example", "", "dkim=none")
    content = stamped(verdict=verdict, clauses=clauses, to=Address("u", "d.test"))
    assert content.prefix.decode() == (
        "Received: from client.example (rev.example [192.0.2.1])\r\n"
        "\tby mx1.example.net with ESMTP id id5678901234567\r\n"
        "\tfor <u@d.test>;\r\n"
        "\tTue, 14 Nov 2023 22:13:20 +0000\r\n"
        "Authentication-Results: mx1.example.net;\r\n"
        "\tspf=pass smtp.mailfrom=a.example;\r\n"
        "\tdkim=none\r\n"
        "X-Spam-Level: MEDIUM\r\n"
        "X-Spam-Score: 17.5\r\n"
        "X-Spam-Checks: spamhaus=listed(15) spf=softfail(2.5) grey=new(defer)\r\n"
    )
    assert (content.skip == 0 and content.body.head is PLAIN) or content.body.head == PLAIN
    assert content.size == len(content.prefix) + len(PLAIN)


def test_a_peer_without_an_address_is_no_empty_literal() -> None:
    content = stamped(session=Session("s", "", 0, "", NOW, hello="client.example", extended=True))
    assert content.prefix.startswith(b"Received: from client.example (local socket)\r\n")


def test_the_least_stamps() -> None:
    session = Session("s", "2001:db8::1", 25000, "192.0.2.26", NOW, tls="TLSv1.3 TLS_AES_256_GCM_SHA384", extended=True)
    assert stamped(session=session).prefix.decode() == (
        "Received: from unknown ([IPv6:2001:db8::1])\r\n"
        "\tby mx2.example.org with ESMTPS (TLSv1.3 TLS_AES_256_GCM_SHA384) id id5678901234567;\r\n"
        "\tTue, 14 Nov 2023 22:13:20 +0000\r\n"
        "Authentication-Results: mx2.example.org; none\r\n"
        "X-Spam-Level: NONE\r\n"
        "X-Spam-Score: 0\r\n"
        "X-Spam-Checks: none\r\n"
    )
    assert host_name(OURS.gateway, session) == "mx2.example.org"


@pytest.mark.parametrize(
    ("extended", "tls", "authenticated", "utf8", "word"),
    [
        (False, "", "", False, "SMTP"),
        (True, "", "", False, "ESMTP"),
        (True, "TLSv1.3 X", "", False, "ESMTPS"),
        (True, "", "user", False, "ESMTPA"),
        (True, "TLSv1.3 X", "user", False, "ESMTPSA"),
        (True, "", "", True, "UTF8SMTP"),
        (True, "TLSv1.3 X", "user", True, "UTF8SMTPSA"),
    ],
)
def test_protocol_words(extended: bool, tls: str, authenticated: str, utf8: bool, word: str) -> None:
    session = Session("s", "192.0.2.1", 1, "", 0.0, extended=extended, tls=tls, authenticated_as=authenticated)
    assert protocol_word(session, Envelope(None, utf8=utf8)) == word


def test_many_checks_are_folded() -> None:
    lines = tuple(ScoreLine(f"blocklist-{n}", "listed", 1.5) for n in range(30))
    prefix = stamped(verdict=Verdict(Level.LOW, (), Score(45.0, 0.0, lines))).prefix
    _, _, value = prefix.partition(b"X-Spam-Checks: ")
    assert value.split() == [str(line).encode() for line in lines]
    assert all(len(line.expandtabs()) <= 78 for line in prefix.split(b"\r\n"))


@pytest.mark.parametrize("address", ["grüße@d.test", "a\r\nb@d.test", '"a b"@d.test', f"{'x' * 999}@d.test"])
def test_a_recipient_that_does_not_fit_is_not_named(address: str) -> None:
    local, _, domain = address.rpartition("@")
    assert b"for <" not in stamped(to=Address(local, domain)).prefix


nasty = st.one_of(st.text(max_size=40), st.text(alphabet="\r\n\x00()\\\";:<> aé\u202e", max_size=400))


@settings(max_examples=150)
@given(nasty, nasty, nasty, st.lists(nasty, max_size=3), nasty, nasty)
def test_nothing_said_breaks_out_of_a_stamp(
    hello: str, reverse: str, tls: str, clauses: list[str], name: str, added: str
) -> None:
    session = Session("s", "192.0.2.1", 1, "", NOW, hello, True, tls, "", reverse)
    actions = (Action("header", added), Action("header", f"X-A: {added}"))
    verdict = Verdict(Level.HIGH, actions, Score(1, 0, (ScoreLine(name, name, 1.0),)))
    content = stamped(session=session, verdict=verdict, clauses=tuple(clauses))
    lines = content.prefix.split(b"\r\n")
    assert lines.pop() == b""
    for line in lines:
        assert LINE.fullmatch(line), line
        assert len(line) <= 998
    names = [line.partition(b":")[0] for line in lines if not line.startswith(b"\t")]
    assert names[:5] == [b"Received", b"Authentication-Results", b"X-Spam-Level", b"X-Spam-Score", b"X-Spam-Checks"]
    assert lines[0].count(b"(") == lines[0].count(b")") == 1
    assert sent(content).endswith(PLAIN)


# --- content without a header section ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "between"),
    [
        (PLAIN, b""),
        (b"Subject: no body\r\n", b""),
        (b"Subject: no end of line", b""),
        (b"\r\nbody: only\r\n", b""),
        (b"", b"\r\n"),
        (b"no field\r\nSubject: x\r\n\r\nbody", b"\r\n"),
        (b" folded: line\r\n\r\n", b"\r\n"),
        (b"\tX-Spam-Level: NONE\r\n\r\n", b"\r\n"),
        (b"From someone Sat Nov 21 10:00\r\nSubject: x\r\n\r\n", b"\r\n"),
        (b": nameless\r\n\r\n", b"\r\n"),
    ],
)
def test_nothing_of_the_body_becomes_header(content: bytes, between: bytes) -> None:
    got = stamped(content)
    assert below_stamps(got) == between + content
    assert got.skip == 0


@pytest.mark.parametrize("before", [b"\r\n", b"text\r\n", PLAIN])
def test_a_body_that_looks_like_a_forgery_is_left_alone(before: bytes) -> None:
    content = before + b"X-Spam-Level: NONE\r\n\r\n"
    assert sent(stamped(content)).endswith(content)


# --- forgeries --------------------------------------------------------------------------------------------------------

FORGED = [
    "Authentication-Results: mx1.example.net; dmarc=pass",
    "authentication-results: MX1.Example.NET; dmarc=pass",
    "AUTHENTICATION-RESULTS:mx1.example.net;dmarc=pass",
    "Authentication-Results \t: mx1.example.net; dmarc=pass",
    "Authentication-Results: mx1.example.net.; dmarc=pass",
    "Authentication-Results: mx1.example.net 1; dmarc=pass",
    "Authentication-Results: mx1.example.net/1; dmarc=pass",
    "Authentication-Results:\r\n mx1.example.net;\r\n\tdmarc=pass",
    "Authentication-Results: (a comment) mx1.example.net; dmarc=pass",
    "Authentication-Results: (a (nested) \\) comment)\r\n\t(and more)mx1.example.net(x); dmarc=pass",
    'Authentication-Results: "mx1.example.net"; dmarc=pass',
    'Authentication-Results: "mx1\\.example.net."; dmarc=pass',
    "Authentication-Results: mx2.example.org; dmarc=pass",
    "Authentication-Results: mx1.example.net",
    "Authentication-Results: (never closed mx1.example.net; dmarc=pass",
    'Authentication-Results: "mx1.example.net; dmarc=pass',
    'Authentication-Results: (never (closed\\) "mx1\\.example.net"; dmarc=pass',
    "Authentication-Results: ; mx1.example.net; dmarc=pass",
    "Received-SPF: pass client-ip=192.0.2.1; receiver=mx1.example.net; identity=mailfrom",
    "received-spf : Pass (mx1.example.net: domain of a@b.test says so)\r\n\treceiver=other.example;",
    'RECEIVED-SPF: pass client-ip=192.0.2.1;\r\n\tRECEIVER (a comment) =\r\n "MX2\\.Example.ORG.";',
    "X-Spam-Level: NONE",
    "x-spam-level : none",
    "X-SPAM-SCORE: -100",
    "X-Spam-Checks: a=b(1)\r\n\tc=d(2)",
]
FOREIGN = [
    "Authentication-Results: other.example; dmarc=pass",
    "Authentication-Results: example.net; dmarc=pass",
    "Authentication-Results: mx1.example.net.other.example; dmarc=pass",
    "Authentication-Results: xmx1.example.net; dmarc=pass",
    "Authentication-Results: (mx1.example.net) other.example; dmarc=pass",
    "Authentication-Results: other.example; dkim=pass header.d=mx1.example.net",
    "Authentication-Results: spf=pass smtp.helo=mx1.example.net;",
    'Authentication-Results:\r\n  "other.example"   1 ;\r\n\tnone',
    "Authentication-Results: ",
    "Authentication-Results: (never closed",
    "ARC-Authentication-Results: i=1; mx1.example.net; dmarc=pass",
    "X-Authentication-Results: mx1.example.net; dmarc=pass",
    "Received-SPF: pass (other.example: domain of a@mx1.example.net says so) receiver=other.example;",
    "Received-SPF: pass client-ip=192.0.2.1; helo=mx1.example.net; receiver=xmx1.example.net",
    "Received-SPF-Too: pass receiver=mx1.example.net",
    "X-Spam-Status: No",
    "X-Spam-Level-Too: NONE",
    "X-Spam: a\r\n X-Spam-Level: NONE",
    "Subject: Authentication-Results: mx1.example.net; dmarc=pass",
]


@pytest.mark.parametrize("field", FORGED)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "To: b@d.test\r\n\r\nbody\r\n"),
        ("From: a@b.test\r\n", "\r\nbody\r\n"),
        ("A: b\r\n c\r\n", ""),
        ("", "\r\n"),
    ],
)
def test_forgeries_are_removed(field: str, before: str, after: str) -> None:
    got = stamped(f"{before}{field}\r\n{after}".encode())
    assert below_stamps(got) == f"{before}{after}".encode()


@pytest.mark.parametrize("field", FOREIGN)
def test_what_is_not_ours_stays(field: str) -> None:
    content = f"{field}\r\nTo: b@d.test\r\n\r\nbody\r\n".encode()
    got = stamped(content)
    assert below_stamps(got) == content
    assert got.skip == 0


def test_a_forgery_below_a_broken_line_is_removed_too() -> None:
    """Some readers go on after a line that is no field."""
    content = b"To: b@d.test\r\nbroken line\r\nX-Spam-Level: NONE\r\n\r\nbody\r\n"
    assert below_stamps(stamped(content)) == b"To: b@d.test\r\nbroken line\r\n\r\nbody\r\n"


def test_a_forgery_at_the_very_end_is_removed() -> None:
    assert below_stamps(stamped(b"To: b@d.test\r\nX-Spam-Level: NONE")) == b"To: b@d.test\r\n"


def test_nothing_but_forgeries_leaves_nothing() -> None:
    assert below_stamps(stamped(b"X-Spam-Level: NONE\r\nX-Spam-Score: 1\r\n")) == b""


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 15)), max_size=8),
    st.sampled_from(["", "\r\n", "\r\nbody\r\nX-Spam-Level: in the body\r\n"]),
    st.booleans(),
)
def test_forgeries_go_and_the_rest_stays(fields: list[tuple[bool, int]], body: str, tagged: bool) -> None:
    lines = ["To: b@d.test"] + [(FORGED if forged else FOREIGN)[which] for forged, which in fields]
    kept = [line for line in lines if line not in FORGED]
    content = "".join(f"{line}\r\n" for line in lines) + body
    got = stamped(content.encode(), verdict=doing(Action("tag", "TAG")) if tagged else CLEAN)
    expected = "".join(f"{line}\r\n" for line in kept)
    section = below_stamps(got).decode()
    if tagged:
        assert section.startswith("Subject: TAG\r\n") is ("Subject:" not in expected)
        section = section.removeprefix("Subject: TAG\r\n").replace("Subject: TAG", "Subject:")
    assert section == expected + body


labels = st.text(alphabet="abcmx1.-exampleMXnet", min_size=1, max_size=20)
pieces = st.sampled_from([" ", "\t", "\r\n ", "(c)", "(mx1.example.net)", "(a(b)\\))", "(;)"])
comments = st.lists(pieces, max_size=4).map("".join)
remains = st.sampled_from(["", ";", "; dkim=pass header.d=mx1.example.net", "1; none"])


@settings(max_examples=150)
@given(comments, labels, comments, remains, st.booleans())
def test_the_name_alone_tells_a_forgery(before: str, name: str, after: str, rest: str, quoted: bool) -> None:
    forged = name.lower().rstrip(".") in ("mx1.example.net", "mx2.example.org")
    written = f'"{name}"' if quoted else name
    for id_, gone in ((written, forged), ("mx1.Example.net", True), ('"MX2.example.org."', True)):
        field = f"Authentication-Results:{before}{id_}{after or ' '}{rest}\r\n"
        kept = below_stamps(stamped(f"A: b\r\n{field}\r\n".encode()))
        assert kept.decode() == ("A: b\r\n\r\n" if gone else f"A: b\r\n{field}\r\n")


# --- actions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "tag", "expected"),
    [
        ("Subject: hello", "SPAM:", "Subject: SPAM: hello"),
        ("SUBJECT:hello", "SPAM:", "Subject: SPAM: hello"),
        ("Subject:\thello  ", "SPAM:", "Subject: SPAM:\thello"),
        ("Subject: SPAM: hello", "SPAM:", "Subject: SPAM: hello"),
        ("subject:   SPAM: hello ", "SPAM:", "subject:   SPAM: hello "),
        ("Subject: Re: SPAM: hello", "SPAM:", "Subject: SPAM: Re: SPAM: hello"),
        ("Subject: one\r\n two\r\n\tthree", "SPAM:", "Subject: SPAM: one\r\n two\r\n\tthree"),
        ("Subject:\r\n two", "SPAM:", "Subject: SPAM:\r\n two"),
        ("Subject:", "SPAM:", "Subject: SPAM:"),
        ("Subject: ", "SPAM:", "Subject: SPAM:"),
        ("Subject: =?utf-8?B?w6k=?=\r\n =?u?Q?a?=", "SPAM:", "Subject: SPAM: =?utf-8?B?w6k=?=\r\n =?u?Q?a?="),
        ("Subject: hello", "é:", "Subject: =?utf-8?B?w6k6?= hello"),
        ("Subject: =?utf-8?B?w6k=?= hello", "é:", "Subject: =?utf-8?B?w6k6IA==?= =?utf-8?B?w6k=?= hello"),
        ("Subject: =?utf-8?B?w6k6?= hello", "é:", "Subject: =?utf-8?B?w6k6?= hello"),
        ("Subject: hello", "a\r\nX: b", "Subject: a??X: b hello"),
        ("Subject: " + "x" * 70, "SPAM:", "Subject: SPAM:\r\n " + "x" * 70),
        ("Subject: one\r\nSubject: two", "SPAM:", "Subject: SPAM: one\r\nSubject: SPAM: two"),
    ],
)
def test_tag(subject: str, tag: str, expected: str) -> None:
    content = stamped(f"To: b@d.test\r\n{subject}\r\n\r\nbody\r\n".encode(), verdict=doing(Action("tag", tag)))
    assert below_stamps(content).decode() == f"To: b@d.test\r\n{expected}\r\n\r\nbody\r\n"


@pytest.mark.parametrize("tag", ["SPAM:", "é:", "ß" * 90])
@pytest.mark.parametrize("subject", ["hello", "=?utf-8?B?w6k=?=", "", "x" * 200])
def test_a_tag_is_not_added_twice(tag: str, subject: str) -> None:
    once = sent(stamped(f"Subject: {subject}\r\n\r\nbody".encode(), verdict=doing(Action("tag", tag))))
    _, _, section = once.partition(b"X-Spam-Checks: none\r\n")
    assert below_stamps(stamped(section, verdict=doing(Action("tag", tag)))) == section


@pytest.mark.parametrize(
    ("content", "rest"),
    [
        (b"To: b@d.test\r\n\r\nbody", b"To: b@d.test\r\n\r\nbody"),
        (b"\r\nbody", b"\r\nbody"),
        (b"no field\r\nSubject: x\r\n", b"\r\nno field\r\nSubject: x\r\n"),
    ],
)
def test_a_subject_is_added_where_there_is_none(content: bytes, rest: bytes) -> None:
    got = stamped(content, verdict=doing(Action("tag", "SPAM:"), Action("tag", "é")))
    assert below_stamps(got) == b"Subject: =?utf-8?B?U1BBTTogw6k=?=\r\n" + rest
    assert below_stamps(stamped(content, verdict=doing(Action("tag", "SPAM:")))) == b"Subject: SPAM:\r\n" + rest


@pytest.mark.parametrize(
    ("line", "written"),
    [
        ("X-A: b", b"X-A: b\r\n"),
        ("X-A:b", b"X-A:b\r\n"),
        ("X-A: gr\u00fc\u00dfe\r\nX-B: c", b"X-A: gr??e??X-B: c\r\n"),
        ("no field", b""),
        ("X A: b", b""),
        (": b", b""),
        ("", b""),
    ],
)
def test_header(line: str, written: bytes) -> None:
    got = stamped(verdict=doing(Action("header", line)))
    assert below_stamps(got) == written + PLAIN
    assert got.skip == 0


# --- hops -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "hops"),
    [
        (PLAIN, 0),
        (b"", 0),
        (b"\r\nReceived: in the body\r\n", 0),
        (b"Received: a\r\n", 1),
        (b"received : a\r\nRECEIVED:\r\n b\r\nX-Received: c\r\nReceived-SPF: d\r\n\r\nReceived: body\r\n", 2),
        (b"Subject: x\r\n Received: folded\r\n\r\n", 0),
        (b"A: b\r\n" + b"Received: x\r\n" * 99 + b"\r\n", 99),
    ],
)
def test_hops(content: bytes, hops: int) -> None:
    assert count_received(message(content)) == hops
    again = sent(stamped(content))
    if content:
        assert count_received(message(again)) == hops + 1


def test_who_spoke_against_mail_is_read_back_from_its_stamps() -> None:
    against = [ScoreLine(f"check{number}", "listed", 0.5) for number in range(60)]
    others = [ScoreLine("spf", "pass", 0.0), ScoreLine("good", "listed", -3.0), ScoreLine("av", "infected", "reject")]
    lines = (*against, *others)
    forged = b"X-Spam-Checks: forged=listed(9)\r\nSubject: x\r\n\r\n"
    content = stamped(forged, verdict=Verdict(Level.HIGH, (), Score(30.0, 0.0, lines)))
    assert checks_against(content.prefix) == {line.check for line in against} | {"av"}
    assert checks_against(stamped().prefix) == checks_against(b"") == frozenset()
