"""Mail data on its way out: what a plain receiver reads is what we were given, octet for octet."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fakes.smtp_wire import EHLO, Network, Outcome, body, parcel, unstuffed
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.model.custody import Content
from inboundmx.smtp.client_content import READ_SIZE, DotStuffer, small_content

ANSWERS = b"250 a\r\n250 b\r\n354 c\r\n"

# Pieces that make every kind of seam likely.
TRICKY = st.lists(
    st.sampled_from([b".", b"..", b"\r\n", b"\r", b"\n", b"a", b"\r\n.\r\n", b"\0", b"\xff"]), max_size=30
)
CLEAN = st.lists(st.sampled_from([b".", b"..", b"\r\n", b"a", b"\r\n.\r\n", b" ", b"\xff"]), max_size=30)
LENIENT_ENDS = [b"\n.\n", b"\n.\r", b"\r.\r", b"\r.\n", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r.\r\n"]


def ended(octets: bytes) -> bytes:
    """What arrives: mail data always ends with CRLF."""
    return octets if not octets or octets.endswith(b"\r\n") else octets + b"\r\n"


@pytest.mark.parametrize(
    ("octets", "wire"),
    [
        (b"", b".\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a\r\n.", b"a\r\n..\r\n.\r\n"),
        (b"a\r\n.\r\nb", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r\n\r\n", b"a\r\n\r\n.\r\n"),
        (b"a.\r\n", b"a.\r\n.\r\n"),
    ],
)
def test_stuffing(octets: bytes, wire: bytes) -> None:
    for cut in range(len(octets) + 1):
        assert b"".join(small_content(Content(octets[:cut], 0, body(octets[cut:])))) == wire


@given(TRICKY, st.lists(st.integers(0, 60), max_size=5))
def test_the_seams_of_pieces_do_not_matter(parts: list[bytes], cuts: list[int]) -> None:
    octets = b"".join(parts)
    stuffer, wire, at = DotStuffer(), b"", 0
    for cut in [*sorted(cuts), len(octets)]:
        wire += b"".join(stuffer.stuffed(octets[at:cut]))
        at = max(at, cut)
    assert unstuffed(wire + stuffer.end()) == ended(octets)


@given(TRICKY, TRICKY, st.integers(0, 10))
def test_what_arrives_is_prefix_and_body_from_skip_on(prefix: list[bytes], octets: list[bytes], skip: int) -> None:
    front, back = b"".join(prefix), b"".join(octets)
    skip = min(skip, len(back))
    wire = b"".join(small_content(Content(front, skip, body(back))))
    assert unstuffed(wire) == ended(front + back[skip:])


@given(CLEAN, CLEAN)
def test_clean_content_holds_no_other_end(prefix: list[bytes], octets: list[bytes]) -> None:
    pieces = small_content(Content(b"".join(prefix), 0, body(b"".join(octets))))
    wire = b"\r\n" + b"".join(pieces)
    assert wire.endswith(b"\r\n.\r\n")
    assert wire.find(b"\r\n.\r\n") == len(wire) - 5
    # The true end looks like a lenient one to whoever ignores a CR; before it there is none.
    assert not any(end in wire[:-3] for end in LENIENT_ENDS)


def test_pieces_without_dots_are_not_copied() -> None:
    octets = b"x" * 1000 + b"\r\n"
    assert small_content(Content(b"", 0, body(octets)))[-2] is octets


# --- bodies in files ---


class Sending:
    """A large body on its way, with 354 given."""

    def __init__(self, folder: Path, octets: bytes, *, on_disk: bytes | None = None, **options: object) -> None:
        (folder / "bodies").mkdir(exist_ok=True)
        if on_disk is not None or octets:
            (folder / "bodies" / "1").write_bytes(octets if on_disk is None else on_disk)
        self.network = Network(str(folder))
        self.connection, self.line = self.network.connection(EHLO.replace(b"100000", b"0"))
        made = parcel(octets=octets, path="bodies/1", **options)  # type: ignore[arg-type]
        self.transmission = self.connection.transmit(made, answer_seconds=10.0, dot_seconds=60.0)
        self.outcome = Outcome(self.transmission.done)
        self.line.heard()


def large(size: int) -> bytes:
    unit = b".dot first\r\n..two\r\nplain line of text\r\n.\r\n"
    return (b"Subject: large\r\n\r\n" + unit * (size // len(unit) + 1))[:size]


@pytest.mark.parametrize("size", [300_000, READ_SIZE * 5, READ_SIZE * 5 + 1, READ_SIZE * 6 - 1])
@pytest.mark.parametrize(("prefix", "skip"), [(b"", 0), (b"Received: x\r\n", 0), (b"New: y\r\n", 16), (b".", 17)])
def test_a_large_body_arrives_whole(tmp_path: Path, size: int, prefix: bytes, skip: int) -> None:
    octets = large(size)
    sending = Sending(tmp_path, octets, prefix=prefix, skip=skip)
    wire = sending.line.says(ANSWERS)
    assert unstuffed(wire) == ended(prefix + octets[skip:])
    assert sending.transmission.dot_sent
    assert sending.line.wire.producer is None
    sending.line.says(b"250 d\r\n")
    assert sending.outcome.value.delivered
    assert sending.connection.usable


@settings(max_examples=25)
@given(st.integers(-3, 3), TRICKY, TRICKY)
def test_dots_around_the_end_of_a_read(shift: int, before: list[bytes], after: list[bytes]) -> None:
    front = b"".join(before)
    octets = b"x" * (READ_SIZE + shift - len(front)) + front + b"".join(after) + b"\r\n"
    with TemporaryDirectory() as folder:
        wire = Sending(Path(folder), octets).line.says(ANSWERS)
    assert unstuffed(wire) == octets


def test_a_slow_transport_is_not_flooded(tmp_path: Path) -> None:
    sending = Sending(tmp_path, large(1_000_000))
    transport = sending.line.wire
    written: list[bytes] = []
    plain_write = transport.write

    def write(data: bytes) -> None:
        plain_write(data)
        if transport.producer is not None:
            transport.producer.pauseProducing()

    transport.write = write  # type: ignore[method-assign]
    sending.line.protocol.dataReceived(ANSWERS)
    while transport.producer is not None:
        piece = sending.line.heard()
        assert len(piece) < 2 * READ_SIZE
        assert not sending.transmission.dot_sent
        written.append(piece)
        transport.producer.resumeProducing()
    written.append(sending.line.heard())
    assert len(written) > 10
    assert unstuffed(b"".join(written)) == ended(large(1_000_000))


@pytest.mark.parametrize("stored", [large(299_999), large(300_000) + b"x", large(400_000), b""])
def test_a_file_of_the_wrong_length_is_never_ended(tmp_path: Path, stored: bytes) -> None:
    sending = Sending(tmp_path, large(300_000), on_disk=stored)
    wire = sending.line.says(ANSWERS)
    assert not wire.endswith(b"\r\n.\r\n")
    attempt = sending.outcome.value
    assert (attempt.trouble, attempt.dot_sent) == ("damaged", False)
    assert [reply.code for _, reply in attempt.replies] == [451]
    assert sending.line.wire.aborted


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    sending = Sending(tmp_path, large(300_000))
    (tmp_path / "bodies" / "1").unlink()
    assert sending.line.says(ANSWERS) == b""
    assert sending.outcome.value.trouble == "damaged"


def paused(folder: Path) -> Sending:
    """A sending whose transport took one read and wants no more."""
    sending = Sending(folder, large(1_000_000))
    transport = sending.line.wire
    plain_write = transport.write

    def write(data: bytes) -> None:
        plain_write(data)
        if transport.producer is not None:
            transport.producer.pauseProducing()

    transport.write = write  # type: ignore[method-assign]
    sending.line.protocol.dataReceived(ANSWERS)
    return sending


def test_a_host_that_takes_no_more_has_three_minutes_for_each_block(tmp_path: Path) -> None:
    """However short an answer may take (RFC 5321 4.5.3.2.5)."""
    sending = paused(tmp_path)
    sending.network.reactor.advance(179.0)
    sending.line.wire.producer.resumeProducing()
    sending.network.reactor.advance(179.0)
    assert not sending.outcome.fired
    sending.network.reactor.advance(1.1)
    attempt = sending.outcome.value
    assert (attempt.trouble, attempt.dot_sent) == ("timeout", False)


@pytest.mark.parametrize(
    ("answer", "trouble", "code"), [(b"421 4.3.0 closing\r\n", "lost", 421), (b"250 thanks\r\n", "garbage", 451)]
)
def test_an_answer_in_the_middle_of_the_content(tmp_path: Path, answer: bytes, trouble: str, code: int) -> None:
    sending = paused(tmp_path)
    sending.line.heard()
    assert sending.line.says(answer) == b""
    attempt = sending.outcome.value
    assert (attempt.trouble, attempt.dot_sent) == (trouble, False)
    assert [reply.code for _, reply in attempt.replies] == [code]
    assert sending.line.wire.aborted


@pytest.mark.parametrize("how", ["abandon", "lost"])
def test_stopped_in_the_middle(tmp_path: Path, how: str) -> None:
    sending = paused(tmp_path)
    producer = sending.line.wire.producer
    if how == "abandon":
        sending.transmission.abandon()
    else:
        sending.line.hangs_up()
    attempt = sending.outcome.value
    assert (attempt.trouble, attempt.dot_sent) == (how + "ed" if how == "abandon" else how, False)
    sending.line.heard()
    producer.resumeProducing()
    assert sending.line.heard() == b""
