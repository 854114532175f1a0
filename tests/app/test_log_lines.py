"""Whatever an event tells: one line of printable ASCII, which JSON reads back."""

from __future__ import annotations

import json

import pytest
from fakes.clock import FakeClock
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from inboundmx.app.maillog import MailLog
from inboundmx.model.settings import LogSettings

# What strangers and primaries say gets into values, what an operator asks for into names.
texts = st.text(max_size=40) | st.text('\r\n\0\x1b\u2028\u202e"\\ ={}', max_size=10) | st.just("\ud800")
values = st.recursive(
    texts | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


class Written:
    dropped = 0

    def __init__(self) -> None:
        self.octets = b""

    def write(self, lines: bytes) -> None:
        self.octets += lines


@pytest.mark.parametrize("format", ["json", "text"])
@given(st.lists(st.dictionaries(texts, values, max_size=4), min_size=1, max_size=3))
@examples(max_examples=100, deadline=None)
def test_each_event_is_one_line(format: str, events: list[dict[str, object]]) -> None:
    writer = Written()
    log = MailLog(LogSettings(format=format), FakeClock(), writer, None)  # type: ignore[arg-type]
    for fields in events:
        log.record("refused", "id", fields)
    log.flush()
    lines = writer.octets.decode("ascii").split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(events)
    assert all(line.isprintable() for line in lines)
    if format == "json":
        for line, fields in zip(lines, events, strict=True):
            told = json.loads(line)
            assert {name: told[name] for name in fields} == fields
