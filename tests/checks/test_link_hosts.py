"""Which hosts links lead to, however they are written."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.checks.link_hosts import host_shown, hosts
from inboundmx.checks.linked import Linked, owners
from inboundmx.policy.mime_text import Link


@pytest.mark.parametrize(
    ("link", "found"),
    [
        ("http://a.example/x", ["a.example"]),
        ("HTTPS://A.Example.:443?x", ["a.example"]),
        ("ftp://a.example", ["a.example"]),
        ("//a.example/x", ["a.example"]),
        ("\\\\a.example\\x", ["a.example"]),
        ("http:/a.example", ["a.example"]),
        ("http:a.example", ["a.example"]),
        ("http:\\\\\\a.example\\@b.example", ["a.example"]),
        ("www.a.example/x", ["www.a.example"]),
        ("http://bank.example@evil.example/", ["evil.example"]),
        ("http://bank.example:80@x@evil.example:8080", ["evil.example"]),
        ("http://evil.example#@bank.example/", ["evil.example"]),
        ("http://evil.example?@bank.example/", ["evil.example"]),
        ("http://a%2Eexa%6dple/", ["a.example"]),
        ("ht\ntp://a.ex\tample/", ["a.example"]),
        ("http://b\u00fccher.example/", ["xn--bcher-kva.example"]),
        ("http://XN--BCHER-KVA.example/", ["xn--bcher-kva.example"]),
        ("http://\uff41\u3002example\uff0e/", ["a.example"]),
        ("http://b%C3%BCcher.example/", ["xn--bcher-kva.example"]),
        ("http://192.0.2.7/x", ["192.0.2.7"]),
        ("http://3221225991/", ["192.0.2.7"]),
        ("http://0xC0.0.0x2.07", ["192.0.2.7"]),
        ("http://192.519", ["192.0.2.7"]),
        ("http://0300.0.2.7.", ["192.0.2.7"]),
        ("http://[2001:db8::7]:80/", ["2001:db8::7"]),
        ("http://[::ffff:192.0.2.7]/", ["192.0.2.7"]),
        ("http://a.example/?u=http://b.example/x", ["a.example", "b.example"]),
        ("http://a.example/?u=http%3A%2F%2Fb.example%2Fx", ["a.example", "b.example"]),
        ("http://a.example/?u=http%253A%252F%252Fb.example", ["a.example"]),
        ("http://a.example/https://b.example/?http://c.example", ["a.example", "b.example", "c.example"]),
        ("http://a.example/r?www.b.example&x", ["a.example", "www.b.example"]),
        ("mailto:a@a.example", []),
        ("cid:x@a.example", []),
        ("javascript:http://a.example", ["a.example"]),
        ("/relative/x", []),
        ("http://", []),
        ("http://localhost/", []),
        ("http://a..example/", []),
        ("http://-a.example/", []),
        ("http://256.0.0.1/", []),
        ("http://4294967296/", []),
        ("http://1.2.3.4.5/", []),
        ("http://a.example.08/", []),
        ("http://[::x]/", []),
        ("http://\u2764.example/", ["xn--qei.example"]),
        ("http://" + "a" * 300 + ".example/", []),
    ],
)
def test_hosts(link: str, found: list[str]) -> None:
    assert [str(host) for host in hosts(link)] == found


@pytest.mark.parametrize(
    ("words", "host"),
    [
        ("http://bank.example/login", "bank.example"),
        ("visit https://bank.example now", "bank.example"),
        ("www.bank.example", "www.bank.example"),
        ("Bank.com", "bank.com"),
        ("bank.co.uk/login?x", "bank.co.uk"),
        ("report.pdf", None),
        ("click here", None),
        ("about bank.com", None),
        ("v1.2.3", None),
        ("", None),
    ],
)
def test_what_a_link_is_taken_for(words: str, host: str | None) -> None:
    assert host_shown(words) == host


def test_whom_links_belong_to() -> None:
    links = [
        Link("http://i.pictures.co.uk/x.gif", ""),
        Link("http://www.a.example/", "here"),
        Link("http://mail.a.example/", "https://a.example"),
        Link("http://192.0.2.7/", ""),
    ]
    found = owners(links)
    assert [str(each) for each in found.owners] == ["a.example", "pictures.co.uk", "192.0.2.7"]
    assert found.mismatch == ""


@pytest.mark.parametrize(
    ("href", "words", "told"),
    [
        ("http://evil.test/", "http://bank.example/", "bank.example leads to evil.test"),
        ("http://bank.example@evil.test/", "www.bank.example", "www.bank.example leads to evil.test"),
        ("http://198.51.100.7/", "https://bank.example", "bank.example leads to 198.51.100.7"),
        ("http://login.bank.example/", "www.bank.example", ""),
        ("mailto:a@bank.example", "http://other.example", ""),
        ("http://evil.test/", "the bank", ""),
    ],
)
def test_a_link_shown_as_another(href: str, words: str, told: str) -> None:
    assert owners([Link(href, words)]).mismatch == told


@pytest.mark.parametrize(
    "link",
    [
        "http://" * 300,
        "http://a.example/?" + "http%3A//" * 300,
        "@" * 2000,
        "http://" + "\u0300" * 250,
        "http://" + "1." * 999,
    ],
)
def test_monsters_are_bounded(link: str) -> None:
    started = time.thread_time()
    for number in range(20):
        hosts(link + str(number))
    assert time.thread_time() - started < 2.0


@settings(max_examples=200)
@given(st.text(alphabet="htp:/\\@.%2EaA0x1[]?#\u3002\u00fc\u200b w", max_size=60))
def test_nothing_a_stranger_writes_makes_it_fail(words: str) -> None:
    hosts("http://" + words)
    host_shown(words)
    assert isinstance(owners([Link(words, words)]), Linked)
