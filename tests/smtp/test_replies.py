"""Replies of servers, friendly and hostile, read as values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.model.reply import Reply
from inboundmx.smtp.replies import LINE_LIMIT, LINES_LIMIT, TEXT_LIMIT, Garbage, ReplyParser, harmless


def read(octets: bytes) -> list[Reply]:
    parser = ReplyParser()
    parser.feed(octets)
    replies = []
    while (reply := parser.next()) is not None:
        replies.append(reply)
    return replies


@pytest.mark.parametrize(
    ("wire", "code", "enhanced", "text"),
    [
        (b"250 Ok\r\n", 250, "", "Ok"),
        (b"250\r\n", 250, "", ""),
        (b"250 \r\n", 250, "", ""),
        (b"250 2.1.0 Ok\r\n", 250, "2.1.0", "Ok"),
        (b"250 2.1.0\r\n", 250, "2.1.0", ""),
        (b"550 5.1.1 <a@b.example> unknown\r\n", 550, "5.1.1", "<a@b.example> unknown"),
        (b"450 5.7.1 mixed up\r\n", 450, "", "5.7.1 mixed up"),
        (b"250 2.0.0.1 not one\r\n", 250, "", "2.0.0.1 not one"),
        (b"554 5.7.1234 not one\r\n", 554, "", "5.7.1234 not one"),
        (b"550-5.1.1 The account\r\n550 5.1.1 does not exist\r\n", 550, "5.1.1", "The account does not exist"),
        (b"550-5.1.1 first\r\n550 second\r\n", 550, "5.1.1", "first second"),
        (b"550-5.1.1 first\r\n550 5.7.1 second\r\n", 550, "5.1.1", "first 5.7.1 second"),
        (b"250-a\r\n250\r\n", 250, "", "a"),
        (b"554 a\tb\x1b[31mc\x00d\r\n", 554, "", "a b [31mc d"),
        (b"554 gr\xc3\xbc\xc3\x9fe \xff\r\n", 554, "", "gr????e ?"),
        (b"554 a\rBcc: x\ny\r\n", 554, "", "a Bcc: x y"),
    ],
)
def test_one_reply(wire: bytes, code: int, enhanced: str, text: str) -> None:
    assert read(wire) == [Reply(code, enhanced, text)]


@pytest.mark.parametrize(
    "wire",
    [
        b"\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"199 too low\r\n",
        b"600 too high\r\n",
        b"25 \r\n",
        b"2500 Ok\r\n",
        b"250_Ok\r\n",
        b" 250 Ok\r\n",
        b"250-a\r\n251 b\r\n",
        b"250-a\r\nb\r\n",
        b"x" * (LINE_LIMIT + 1),
        b"250 " + b"x" * LINE_LIMIT + b"\r\n",
        b"250-a\r\n" * LINES_LIMIT,
        b"250-a\r\n" * 10_000 + b"250 a\r\n",
        "²50 Ok\r\n".encode(),
    ],
)
def test_garbage(wire: bytes) -> None:
    with pytest.raises(Garbage) as caught:
        read(wire)
    assert str(caught.value).isprintable()


def test_a_lone_line_feed_ends_nothing() -> None:
    assert read(b"250 Ok\n") == []


def test_the_lines_of_a_reply_are_kept_apart_for_ehlo() -> None:
    parser = ReplyParser()
    parser.feed(b"250-mx.example hello\r\n250-PIPELINING\r\n250 SIZE 1000\r\n220 go\r\n250 x")
    assert parser.next() is not None
    assert parser.lines == ("mx.example hello", "PIPELINING", "SIZE 1000")
    assert not parser.empty
    assert parser.next() == Reply(220, "", "go")
    assert not parser.empty
    assert parser.next() is None


def test_an_unfinished_reply_is_not_nothing() -> None:
    parser = ReplyParser()
    assert parser.empty
    parser.feed(b"250-a\r\n")
    assert parser.next() is None
    assert not parser.empty


def test_a_long_text_is_cut() -> None:
    (reply,) = read(b"550 " + b"word " * 700 + b"\r\n")
    assert len(reply.text) <= TEXT_LIMIT
    assert reply.text.endswith("...")


@given(st.lists(st.sampled_from([b"250 Ok\r\n", b"250-a\r\n250 b\r\n", b"550 5.1.1 no\r\n", b"354 go\r\n"])), st.data())
def test_the_seams_between_segments_do_not_matter(parts: list[bytes], data: st.DataObject) -> None:
    wire = b"".join(parts)
    parser, heard, at = ReplyParser(), [], 0
    while at < len(wire):
        step = data.draw(st.integers(1, 7))
        parser.feed(wire[at : at + step])
        at += step
        while (reply := parser.next()) is not None:
            heard.append(reply)
    assert heard == read(wire)
    assert parser.empty


@given(st.binary(max_size=400))
def test_whatever_is_heard_is_garbage_or_harmless(octets: bytes) -> None:
    try:
        replies = read(b"550 " + octets + b"\r\n")
    except Garbage:
        return
    for reply in replies:
        assert str(reply).isascii()
        assert str(reply).isprintable()
        assert len(reply.text) <= TEXT_LIMIT


@given(st.binary(max_size=3000), st.integers(10, 50))
def test_harmless_is_bounded_and_printable(octets: bytes, limit: int) -> None:
    text = harmless(octets, limit)
    assert len(text) <= limit
    assert text.isprintable()
    assert text.isascii()
