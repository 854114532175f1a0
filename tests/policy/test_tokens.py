"""The words of a message: which count, which do not, and how many at most."""

from __future__ import annotations

import time

import pytest

from inboundmx.model.message import Body, Message
from inboundmx.policy.mime import walk
from inboundmx.policy.mime_text import text
from inboundmx.policy.tokens import MOST, tokens


def of(octets: bytes) -> tuple[str, ...]:
    parts = walk(octets)
    return tokens(Message("m", Body(len(octets), octets, None, b"")).fields, parts, text(parts))


def test_words_of_text_links_and_header() -> None:
    found = of(
        b"Received: from spam.example by mx.gateway.example\r\nX-Spam-Score: 99\r\n"
        b"From: Ann Smith <Ann@Mail.A.Example>\r\nSubject: =?utf-8?q?Gro=C3=9Fes_Angebot?=\r\n"
        b"In-Reply-To: <x@y.example>\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
        b"<p>Buy it, a V<b></b>iagra! <span style='display:none'>poem</span>"
        b"<a href='http://x@shop.evil.test/Buy/42?q=1'>NOW</a> for $99 or 50%</p>\r\n"
    )
    for token in ("s:gro\u00dfes", "s:angebot", "f@mail.a.example", "f@ann@mail.a.example", "f:smith",
                  "h:in-reply-to", "p:text/html", "u:evil.test", "u:shop.evil.test", "u/buy", "viagra", "now",
                  "buy", "c:text"):  # fmt: skip
        assert token in found, token
    assert not {"poem", "a", "it", "score", "x-spam-score", "gateway", "spam"} & set(found)
    assert len(set(found)) == len(found)


def test_loud_subjects_long_words_and_scripts_without_blanks() -> None:
    found = of(
        "Subject: MAKE MONEY FAST\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
        f"{'x' * 55} \u7279\u4ef7\u4fe1\u606f \u041a\u0443\u043f\u0438 http://192.0.2.7/a mailto:b\r\n".encode()
    )
    assert {"s:loud", "s:money", "long:x5", "\u7279\u4ef7", "\u4ef7\u4fe1", "\u043a\u0443\u043f\u0438",
            "u:address"} <= set(found)  # fmt: skip


def test_files_are_told_by_their_kind() -> None:
    found = of(
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: application/zip; name=Invoice.ZIP\r\n\r\nPK\r\n--b--\r\n"
    )
    assert {"p:multipart/mixed", "p:application/zip", "n:zip", "c:multipart"} <= set(found)


@pytest.mark.parametrize(
    "octets",
    [
        b"\r\n" + b" ".join(b"word%d" % number for number in range(50_000)),
        b"".join(b"Subject: word%d\r\n" % number for number in range(20_000)) + b"\r\nx",
        b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + "\u7279\u4ef7".encode() * 50_000,
        b"\r\n" + b"a-" * 100_000,
        b"Content-Type: text/html\r\n\r\n" + b"<a href=http://a.b.c.d.e.example/%d>" % 1 * 5000,
    ],
)
def test_there_are_never_more_than_so_many(octets: bytes) -> None:
    started = time.thread_time()
    assert len(of(octets)) <= MOST
    assert time.thread_time() - started < 3.0
