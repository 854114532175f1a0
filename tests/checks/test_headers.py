"""The headers check: what it finds, and that nothing a stranger writes makes it fail."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.checks.api import Case
from inboundmx.checks.headers import FIELDS_LIMIT, Headers
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import Finding
from inboundmx.model.message import Body, Message
from inboundmx.model.session import Session
from inboundmx.policy.encoded_words import decoded

SESSION = Session("s", "192.0.2.1", 25000, "192.0.2.25", 0.0)


def examine(content: bytes, **options: str) -> Finding:
    message = Message("id", Body(len(content), content, None, b""))
    coroutine = Headers(options).examine(Case(SESSION, Envelope(None), None, message))
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    return stop.value.value


SUBJECT = b"From: a@example.test\r\nSubject: Cheap Watches today\r\n\r\nX-Bulk: in the body\r\n"


@pytest.mark.parametrize(
    ("content", "options", "outcome"),
    [
        (SUBJECT, {"header": "Subject", "value": "cheap watches"}, "match"),
        (SUBJECT, {"header": "SUBJECT:", "value": "CHEAP"}, "match"),
        (SUBJECT, {"header": "Subject", "value": "cheap  watches"}, "absent"),
        (SUBJECT, {"header": "From", "value": "cheap"}, "absent"),
        (SUBJECT, {"header": "Subject"}, "match"),
        (SUBJECT, {"header": "X-Bulk"}, "absent"),
        (b"Subject:\r\n\r\n", {"header": "Subject"}, "match"),
        (b"", {"header": "Subject"}, "absent"),
        (SUBJECT, {"header": "Subject", "pattern": r"^Cheap\s+\w+es\b"}, "match"),
        (SUBJECT, {"header": "Subject", "pattern": "^cheap"}, "absent"),
        (SUBJECT, {"header": "Subject", "pattern": "(?i)^cheap"}, "match"),
        (b"Subject: one\r\nSubject: two\r\n\r\n", {"header": "subject", "value": "two"}, "match"),
        (b"Subject: cheap\r\n watches\r\n\r\n", {"header": "subject", "value": "cheap watches"}, "match"),
        (b"Subject: =?utf-8?B?Q2hlYXAgV2F0Y2hlcw==?=\r\n\r\n", {"header": "subject", "value": "cheap w"}, "match"),
        (b"Subject: =?iso-8859-1?Q?caf=E9_au?=\r\n =?utf-8?q?_lait?=\r\n\r\n",
         {"header": "subject", "value": "CAFÉ au lait"}, "match"),
        ("Subject: grüße\r\n\r\n".encode(), {"header": "subject", "value": "GRÜSSE"}, "match"),
        (b"Subject: \xff\xfe raw\r\n\r\n", {"header": "subject", "value": "raw"}, "match"),
    ],
)
def test_outcomes(content: bytes, options: dict[str, str], outcome: str) -> None:
    assert examine(content, **options).outcome == outcome


def test_fields_beyond_the_limit_are_not_looked_at() -> None:
    bomb = b"X-Many: no\r\n" * FIELDS_LIMIT + b"X-Many: yes\r\n\r\n"
    assert examine(bomb, header="X-Many", value="yes").outcome == "absent"
    assert examine(bomb[len(b"X-Many: no\r\n") :], header="X-Many", value="yes").outcome == "match"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"header": "Sub ject"}, "not the name"),
        ({"header": ""}, "not the name"),
        ({"header": "Grüße"}, "not the name"),
        ({"header": "Subject", "value": "a", "pattern": "b"}, "choose one"),
        ({"header": "Subject", "pattern": "(a"}, "not a regular expression"),
        ({"header": "Subject", "pattern": "(a+)+b"}, "may take too long"),
    ],
)
def test_wrong_options_are_refused_by_name(options: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Headers(options)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("plain", "plain"),
        ("=?utf-8?q?a_b=2E?=", "a b."),
        ("=?UTF-8?B?w6k=?= =?utf-8?b?w6k?=", "éé"),
        ("=?utf-8?q?a?= x =?utf-8?q?b?=", "a x b"),
        ("=?utf-8*en?q?a?=", "a"),
        ("=?windows-1252?q?=80?=", "€"),
        ("=?no-such-charset?q?=C3=A9?=", "é"),
        ("=?zlib_codec?b?eJwDAAAAAAE=?=", None),
        ("=?utf-8?q?unfinished", "=?utf-8?q?unfinished"),
        ("=?utf-8?b?a?=", None),
    ],
)
def test_encoded_words(written: str, read: str | None) -> None:
    """None: anything, as long as it does not fail."""
    said = decoded(written)
    assert said == read if read is not None else isinstance(said, str)


@settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from(["=?", "?=", "?", "utf-8", "gb18030", "iso-2022-jp", "b", "Q", "=C3", "w6k", " ", "é", "\x00"])
    )
)
def test_no_subject_makes_decoding_fail(parts: list[str]) -> None:
    assert isinstance(decoded("".join(parts)), str)


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_no_content_makes_the_check_fail(octets: bytes) -> None:
    assert examine(b"Subject: " + octets + b"\r\n\r\n", header="Subject", pattern="x+").outcome in Headers.outcomes
