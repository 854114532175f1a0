"""The console's connections: one question each, everything bounded, nothing left behind."""

from __future__ import annotations

import pytest
from console_fakes import Console
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.console.server import CONNECTIONS, CONNECTIONS_OF_ONE, CONTENT_LIMIT, FIELDS, HEAD_LIMIT, SECONDS

WHOLE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_a_question_in_pieces() -> None:
    console = Console()
    line = console.connect()
    assert line is not None
    for at in range(len(WHOLE)):
        assert line.wire.value() == b""
        line.says(WHOLE[at : at + 1])
    assert line.heard.code == 200
    assert console.clock.turned.getDelayedCalls() == [] and not console.service.factory.channels


def test_one_answer_a_connection() -> None:
    line = Console().connect()
    assert line is not None
    line.says(WHOLE * 3)
    assert line.gone and line.wire.value().count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize("said", [b"", b"GET /hea", WHOLE[:-2], b"POST / HTTP/1.1\r\nContent-Length: 90\r\n\r\n1"])
def test_time_is_over_however_slowly_one_speaks(said: bytes) -> None:
    console = Console()
    line = console.connect()
    assert line is not None
    line.says(said)
    for _ in range(9):
        console.clock.advance(SECONDS / 10)
        line.says(b"x" if said else b"")
    assert not line.wire.aborted
    console.clock.advance(SECONDS / 10)
    line.settle()
    assert line.wire.aborted and line.wire.value() == b""
    assert not console.service.factory.channels and console.clock.turned.getDelayedCalls() == []


def test_who_does_not_read_the_answer_is_cut_off_too() -> None:
    console = Console()
    line = console.connect()
    assert line is not None
    line.protocol.dataReceived(WHOLE)
    assert line.wire.disconnecting and not line.wire.aborted
    console.clock.advance(SECONDS)
    assert line.wire.aborted


def test_so_many_at_once() -> None:
    console = Console()
    lines = [console.connect(f"192.0.2.{number}") for number in range(CONNECTIONS)]
    assert None not in lines
    assert console.connect() is None
    assert lines[0] is not None
    lines[0].hangs_up()
    assert console.connect() is not None


@pytest.mark.parametrize(
    ("one", "another"), [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8:0:1::1"), ("127.0.0.1", "::1")]
)
def test_nobody_alone_keeps_the_others_out(one: str, another: str) -> None:
    console = Console()
    lines = [console.connect(one) for _ in range(CONNECTIONS_OF_ONE)]
    assert None not in lines
    assert console.connect(one) is None
    assert console.connect(one.replace("::1", "::2")) is None
    assert console.connect(another) is not None
    assert lines[0] is not None
    lines[0].hangs_up()
    assert console.connect(one) is not None


@pytest.mark.parametrize(
    "said",
    [b"GET /" + b"a" * HEAD_LIMIT + b" HTTP/1.1\r\n\r\n",
     b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * HEAD_LIMIT + b"\r\n\r\n",
     b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * FIELDS + b"\r\n",
     b"a" * 100_000, b"\0" * 100 + b"\n\r\n", b"GET\r\n\r\n", b"GET /healthz HTTP/9.9\r\n\r\n",
     b"EHLO stranger.example\r\n", b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n",
     b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n" * 10,
     b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
     b"POST /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
     b"POST /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
     b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"],
    ids=range(14),
)  # fmt: skip
def test_what_is_no_question(said: bytes) -> None:
    line = Console().connect()
    assert line is not None
    line.says(said)
    line.settle()
    assert line.gone
    assert line.wire.value() in (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize(
    "said",
    [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
     b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 5\r\n\r\nhello",
     b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 5\r\n\r\nhello"],
    ids=range(4),
)  # fmt: skip
@pytest.mark.parametrize("method, code", [(b"POST", 405), (b"GET", 200)])
def test_content_is_read_past(said: bytes, method: bytes, code: int) -> None:
    line = Console().connect()
    assert line is not None
    line.says(method + b" /healthz HTTP/1.1\r\nHost: localhost\r\n" + said)
    assert line.heard.code == code


@pytest.mark.parametrize(
    "said", [b"Content-Length: 1000000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n"]
)
def test_much_content_is_not_read(said: bytes) -> None:
    line = Console().connect()
    assert line is not None
    line.says(b"POST /healthz HTTP/1.1\r\nHost: localhost\r\n" + said)
    for _ in range(CONTENT_LIMIT // 8192):
        line.says(bytes(8192))
    assert not line.gone
    line.says(b"x")
    assert line.gone and line.wire.aborted and line.wire.value() == b""


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_noise_does_no_harm(pieces: list[bytes]) -> None:
    console = Console()
    line = console.connect()
    assert line is not None
    for piece in pieces:
        line.says(piece)
    if not line.gone:
        line.hangs_up()
    assert console.clock.turned.getDelayedCalls() == [] and not console.service.factory.channels


def test_a_stop_ends_what_is_connected() -> None:
    console = Console()
    assert console.service.stop().called
    lines = [line for line in (console.connect(), console.connect()) if line is not None]
    stopped = console.service.stop()
    assert not stopped.called and all(line.wire.aborted for line in lines)
    for line in lines:
        line.settle()
    assert stopped.called and console.clock.turned.getDelayedCalls() == []
