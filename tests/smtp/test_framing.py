"""Framing against a plain reference, whatever pieces the octets come in."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.smtp.framing import COMMAND_LIMIT, ENDLESS, ContentReader, Flaw, LineReader

SIGNS = (b"\r", b"\n", b".", b"a", b"\0")
streams = st.lists(st.sampled_from([*SIGNS, b"\r\n", b"\r\n.", b"\r\n.\r\n", b"xyz"]), max_size=24).map(b"".join)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


def read_content(chunks: list[bytes]) -> tuple[bytes, bool, bool, bytes]:
    reader = ContentReader()
    content = rest = b""
    for chunk in chunks:
        if reader.ended:
            rest += chunk
        else:
            given_out = reader.feed(chunk)
            content += given_out
            if reader.ended:
                rest = reader.rest
    assert reader.size == len(content)
    return content, reader.ended, reader.stray, rest


def plain_content(data: bytes) -> tuple[bytes, bool, bytes] | None:
    """Line by line, as RFC 5321 4.5.2 puts it; None when the end has not come."""
    lines = data.split(b"\r\n")
    for at, line in enumerate(lines[:-1]):
        if line == b".":
            taken = [line.removeprefix(b".") for line in lines[:at]]
            content = b"".join(line + b"\r\n" for line in taken)
            alone = b"".join(lines[:at])
            stray = any(sign in alone for sign in (b"\r", b"\n", b"\0"))
            return content, stray, b"\r\n".join(lines[at + 1 :])
    return None


def read_lines(chunks: list[bytes]) -> list[bytes | Flaw]:
    reader = LineReader()
    found: list[bytes | Flaw] = []
    for chunk in chunks:
        reader.feed(chunk)
        while (line := reader.next()) is not None:
            found.append(line)
            if line is Flaw.ENDLESS:
                return found
    return found


@given(streams, st.lists(st.integers(0, 200), max_size=6))
@settings(max_examples=400)
def test_content_is_what_the_reference_says_in_any_pieces(data: bytes, cuts: list[int]) -> None:
    content, ended, stray, rest = read_content(pieces(data, cuts))
    expected = plain_content(data)
    if expected is None:
        assert not ended
        # Nothing is given out that could still be the end, and nothing is lost: the end brings out the rest.
        finished = plain_content(data + b"\r\n.\r\n")
        assert finished is not None
        assert finished[0].startswith(content)
    else:
        assert (content, stray, rest) == expected
        assert ended


def test_every_way_to_cut_a_short_stream() -> None:
    data = b".a\r\n..\r\n.b\r\n\r\n.\r\nQUIT"
    whole = read_content([data])
    assert whole == (b"a\r\n.\r\nb\r\n\r\n", True, False, b"QUIT")
    for first, second in itertools.combinations(range(len(data) + 1), 2):
        assert read_content([data[:first], data[first:second], data[second:]]) == whole
    assert read_content([data[at : at + 1] for at in range(len(data))]) == whole


@pytest.mark.parametrize("length", range(1, 6))
def test_every_short_content_octet_by_octet(length: int) -> None:
    for signs in itertools.product(SIGNS, repeat=length):
        data = b"".join(signs) + b"\r\n.\r\nx"
        expected = plain_content(data)
        assert expected is not None
        content, ended, stray, rest = read_content([data[at : at + 1] for at in range(len(data))])
        assert ended
        assert (content, stray, rest) == expected


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (b".\r\n", b""),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"\r\n.\r\n", b"\r\n"),
        (b".a\r\n.\r\n", b"a\r\n"),
        (b"a\r\n...\r\n.\r\n", b"a\r\n..\r\n"),
    ],
)
def test_content_ends(data: bytes, content: bytes) -> None:
    assert read_content([data]) == (content, True, False, b"")


# What lenient servers took, or take, for an end of data: nothing but the last CRLF.CRLF is one, and all are unfit.
SMUGGLING = [
    before + b"." + after
    for before, after in itertools.product(
        [b"\n", b"\r", b"\r\n", b"\r\r\n", b"\n\r", b"\0\r\n", b"\r\0\n", b"\r\n\0", b"\n\n"],
        [b"\n", b"\r", b"\r\n", b"\r\r\n", b"\n\r", b"\0\r\n", b"\r\0\n"],
    )
    if not (before.endswith(b"\r\n") and after == b"\r\n")
]


@pytest.mark.parametrize("sequence", SMUGGLING)
def test_no_lenient_end_ends_anything(sequence: bytes) -> None:
    tail = b"MAIL FROM:<evil@client.example>\r\n"
    data = b"first" + sequence + tail + b"\r\n.\r\n"
    for chunks in ([data], [data[at : at + 1] for at in range(len(data))]):
        content, ended, stray, rest = read_content(chunks)
        assert ended
        assert stray
        assert rest == b""
        assert tail in content


def test_stray_signs_are_seen_across_pieces() -> None:
    assert read_content([b"a\r", b"b\r\n.\r\n"])[2]
    assert read_content([b"a", b"\nb\r\n.\r\n"])[2]
    assert not read_content([b"a\r", b"\nb\r\n.\r\n"])[2]


@given(streams, st.lists(st.integers(0, 200), max_size=6))
@settings(max_examples=300)
def test_each_crlf_ends_one_line(data: bytes, cuts: list[int]) -> None:
    expected = [
        Flaw.STRAY if any(sign in line for sign in (b"\r", b"\n", b"\0")) else line
        for line in data.split(b"\r\n")[:-1]
    ]
    assert read_lines(pieces(data, cuts)) == expected


@pytest.mark.parametrize("step", [1, 7, 1000, 10**6])
def test_long_lines_are_answered_once_at_their_end(step: int) -> None:
    longest = b"x" * (COMMAND_LIMIT - 2)
    lines = [longest, longest + b"y", b"short", b"z" * (ENDLESS - 10), b"after"]
    data = b"".join(line + b"\r\n" for line in lines)
    chunks = [data[at : at + step] for at in range(0, len(data), step)]
    assert read_lines(chunks) == [longest, Flaw.TOO_LONG, b"short", Flaw.TOO_LONG, b"after"]


def test_a_long_line_may_be_cut_inside_its_crlf() -> None:
    assert read_lines([b"x" * 5000, b"\r", b"\nNOOP\r\n"]) == [Flaw.TOO_LONG, b"NOOP"]
    assert read_lines([b"x" * 5000 + b"\r", b"\nNOOP\r\n"]) == [Flaw.TOO_LONG, b"NOOP"]


def test_an_endless_line_is_bounded_and_ends() -> None:
    reader = LineReader()
    for _ in range(ENDLESS // 1000 + 1):
        assert reader.next() is None
        reader.feed(b"x" * 1000)
        assert reader.waiting <= COMMAND_LIMIT + 1000
    while (found := reader.next()) is None:
        reader.feed(b"x" * 1000)
    assert found is Flaw.ENDLESS


def test_taking_leaves_nothing_behind() -> None:
    reader = LineReader()
    reader.feed(b"STARTTLS\r\nRSET\r\nNO")
    assert reader.next() == b"STARTTLS"
    assert reader.begun
    assert reader.take() == b"RSET\r\nNO"
    assert not reader.begun
    assert reader.next() is None
