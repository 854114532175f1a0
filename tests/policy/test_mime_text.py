"""What a reader sees of a message: text, links with what they are shown by, and linear work on any monster."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.policy.html_text import SHOWN_LIMIT, Link, shown
from inboundmx.policy.mime import walk
from inboundmx.policy.mime_text import BOUNDS, Bounds, Text, text

# CPU seconds for half a megabyte of the worst, on a slow machine beside others; all take far less.
PATIENCE = 3.0


def page(source: str) -> tuple[str, tuple[Link, ...]]:
    found = shown(source, 1000, 100)
    return " ".join(found.text.split()), found.links


def seen(octets: bytes, bounds: Bounds = BOUNDS) -> Text:
    return text(walk(octets), bounds)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("<p>Hello <b>wor</b>ld</p>", "Hello world"),
        ("one<br>two<div>three</div>four", "one two three four"),
        ("V<!-- x -->ia<i></i>gra", "Viagra"),
        ("V<!--> -->ia", "V -->ia"),
        ("a<!-- never closed <p>b", "a"),
        ("<title>no</title><style>p {x}</style><script>if (a<b) x</script>yes", "yes"),
        ("a<script>x", "a"),
        ("a &lt;b&gt; &amp;amp; &#65;&#x42;&#0067; &eacute;&no; &#99999999;", "a <b> &amp; ABC é&no; &#99999999;"),
        ("&copy2 &ampx &notin; &notit; &AMP", "\u00a92 &x \u2209 \u00acit; &"),
        ("1 < 2 and a <3 b", "1 < 2 and a <3 b"),
        ("<!DOCTYPE html><?xml version='1'?></!x>shown", "shown"),
        ("a<p title='x > y'>b", "a b"),
        ('a<p title="never closed>b</p>c', "a b c"),
        ("a<span style='display:none'>no <span>no</span> no</span>b", "ab"),
        ("a<span style='color: red; DISPLAY : none !important'>no</span>b", "ab"),
        ("a<div style='font-size:0px'>no</div>b<div style='font-size:0.8em'>yes</div>", "a b yes"),
        ("a<div hidden>no</div>b<div class='hidden-xs'>yes</div>", "a b yes"),
        ("a<img style='display:none' alt=x>b", "a xb"),
        ("<noscript>shown, for mail has no scripts</noscript>", "shown, for mail has no scripts"),
        ("<", "<"),
        ("<a", ""),
        ("a</", "a</"),
    ],
)  # fmt: skip
def test_what_is_shown(source: str, words: str) -> None:
    assert page(source)[0] == words


@pytest.mark.parametrize(
    ("source", "links"),
    [
        ('<a href="http://a.example/">click <b>here</b></a>', [("http://a.example/", "click here")]),
        ("<A HREF=http://a.example/x>b</A>", [("http://a.example/x", "b")]),
        ("<a\nhref\n=\n'http://a.example/'>b", [("http://a.example/", "b")]),
        ("<a/href=//a.example>b</a>", [("//a.example", "b")]),
        ("<a href=http://a.example><a href=http://b.example>c", [("http://a.example", ""), ("http://b.example", "c")]),
        ("<a href='ht\ntp://a.ex&#97;mple/\t'>b</a>", [("http://a.example/", "b")]),
        ("<a href=http://first.example href=http://second.example></a>", [("http://first.example", "")]),
        ("<a name=x>no link</a>", []),
        ("<img src=http://i.example/x.gif>", [("http://i.example/x.gif", "")]),
        ("<base href=http://b.example/>", [("http://b.example/", "")]),
        ("<form action=http://f.example/>", [("http://f.example/", "")]),
        ("<body background=http://g.example/x>", [("http://g.example/x", "")]),
        ("<meta http-equiv=refresh content='0; URL=http://m.example/'>", [("http://m.example/", "")]),
        ("<!-- <a href=http://no.example>x</a> -->", []),
        ('<a title="no end href=http://a.example/>b</a>', [("http://a.example/", "b")]),
        ("<a title=\"it's\" href='http://a.example/'>b</a>", [("http://a.example/", "b")]),
        ("<div hidden><a href=http://a.example/>x</a></div>", [("http://a.example/", "")]),
    ],
)
def test_where_links_lead(source: str, links: list[tuple[str, str]]) -> None:
    assert [tuple(link) for link in page(source)[1]] == links


def test_bounds_end_the_reading_and_say_so() -> None:
    assert not shown("<b>" * 11, 10, 10).complete
    assert shown("<b>" * 10, 10, 10).complete
    assert shown("&lt;" * 29, 10, 10) == ("<" * 29, (), True)
    assert shown("&lt;" * 31, 10, 10) == ("<" * 29, (), False)
    many = shown("<a href=x>y</a>" * 11, 100, 10)
    assert len(many.links) == 10 and not many.complete
    (long,) = shown(f"<a href={'x' * 5000}>{'y' * 5000}</a>", 10, 10).links
    assert len(long.href) == 2000 and len(long.shown) == SHOWN_LIMIT


def test_all_parts_of_text_are_read_in_their_charset() -> None:
    found = seen(
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\ncaf\xe9 http://one.example/x.\r\n"
        b"--b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        b"PGEgaHJlZj1odHRwOi8vdHdvLmV4YW1wbGUvPmzDqDwvYT4=\r\n"
        b"--b\r\nContent-Type: image/png\r\n\r\nhttp://three.example/\r\n"
        b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nwww.four.example\r\n"
        b"--b--\r\n"
    )
    assert found.plain.split() == ["café", "http://one.example/x.", "lè", "www.four.example"]
    assert found.links == (
        Link("http://one.example/x", ""), Link("http://two.example/", "lè"), Link("www.four.example", ""),
    )  # fmt: skip
    assert found.complete


@pytest.mark.parametrize(
    ("words", "link"),
    [
        ("(see http://a.example/b_(c))", "http://a.example/b_(c"),
        ("<https://a.example>", "https://a.example"),
        ("HTTP:\\\\a.example", "HTTP:\\\\a.example"),
        ("www2.a.example/x?y=1,", "www2.a.example/x?y=1"),
        ("ftp://a.example", "ftp://a.example"),
        ("mail@www.a.example", None),
        ("awww.a.example", None),
        ("h\u200bttp://a.example", "http://a.example"),
    ],
)
def test_links_in_bare_text(words: str, link: str | None) -> None:
    found = seen(b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + words.encode())
    assert [each.href for each in found.links] == ([] if link is None else [link])


def test_words_broken_by_what_takes_no_room_are_whole() -> None:
    assert "Viagra" in seen("Content-Type: text/plain; charset=utf-8\r\n\r\nV\u00adi\u200bag\u2060ra".encode()).plain


def test_no_more_is_read_than_may_be() -> None:
    large = b"Content-Type: text/plain\r\n\r\n" + b"x" * 5000
    found = seen(large, Bounds(octets=1000))
    assert len(found.plain) == 1000 and not found.complete
    assert seen(large, Bounds(octets=5000)).complete
    encoded = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b"eHh4" * 5000
    found = seen(encoded, Bounds(octets=1000))
    assert len(found.plain) == 1000 and not found.complete
    two = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + b"x" * 1000 + b"\r\n--b\r\n\r\nmore\r\n--b--"
    )
    assert not seen(two, Bounds(octets=1000)).complete
    assert not seen(b"\r\n" + b"http://a.example/%d " * 1 + b" ".join(b"http://a.example/%d" % n for n in range(20)),
                    Bounds(links=10)).complete  # fmt: skip


M = 1_000_000
MONSTERS = {
    "brackets": "<" * M,
    "tags": "<a>" * (M // 3),
    "open tags": "<a" * (M // 2),
    "open quotes": '<a b="' * (M // 6),
    "quotes in turn": "<a b='\"" * (M // 7),
    "comments": "<!--" * (M // 4),
    "comment ends": "<!-- --" * (M // 7),
    "ends of nothing": "</" * (M // 2),
    "scripts": "<script></script " * (M // 17),
    "entities": "&aaaa" * (M // 5),
    "zeros": "&#" + "0" * M,
    "nines": "&#" + "9" * M,
    "digits": "&#9" * (M // 3),
    "equal signs": "<a " + "a= " * (M // 3),
    "blanks": "<a b" + " " * M + "<a b",
    "slashes": "<a" + "/" * M,
    "www": "www." * (M // 4),
    "schemes": "http://a " * (M // 9),
    "styles": ("<p style='" + "; " * 1000 + "'>") * (M // 2000),
    "links": "<a href=http://x.example/>" * (M // 26),
    "hidden": "<p hidden>" * (M // 10),
    "refreshes": "<meta content='" + "url " * (M // 4) + "'>",
    "anything": "".join(random.Random(1).choices("<>\"'=a/ !-&#;x0", k=M)),
}


@pytest.mark.parametrize("name", MONSTERS)
def test_monsters_take_no_longer_than_their_length(name: str) -> None:
    octets = b"Content-Type: text/html\r\n\r\n" + MONSTERS[name].encode()
    started = time.thread_time()
    found = seen(octets)
    assert time.thread_time() - started < PATIENCE
    assert not found.complete


@settings(max_examples=200)
@given(st.text(alphabet="<>\"'=aA/ !-&#;x0shref:.tylebdiv\n\u200b", max_size=300), st.sampled_from(["html", "plain"]))
def test_nothing_a_stranger_writes_makes_it_fail(words: str, kind: str) -> None:
    found = seen(f"Content-Type: text/{kind}; charset=utf-8\r\n\r\n{words}".encode())
    assert len(found.plain) <= len(words) * 4 + 100
