"""Lists of clients and senders: which entry an address, a sender or a domain falls under."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address, ip_network

import pytest
from fakes.lists import lists
from hypothesis import example, given
from hypothesis import strategies as st

from inboundmx.model.address import Address
from inboundmx.model.listing import TICKS, Listed
from inboundmx.policy.listing import Joined, Listing, blocks, fits, is_loose

CLIENTS = "192.0.2.7 192.0.2.16-192.0.2.20 198.51.100.0/28 2001:db8:1::/48 2001:db8::5 ::ffff:203.0.113.0/124"


@pytest.mark.parametrize(
    ("ip", "listed"),
    [
        ("192.0.2.7", True),
        ("192.0.2.6", False),
        ("::ffff:192.0.2.7", True),
        ("192.0.2.15", False),
        ("192.0.2.16", True),
        ("192.0.2.20", True),
        ("192.0.2.21", False),
        ("198.51.100.0", True),
        ("198.51.100.15", True),
        ("198.51.100.16", False),
        ("2001:db8:1:ffff::1", True),
        ("2001:db8:2::1", False),
        ("2001:DB8:0::5", True),
        ("2001:db8::6", False),
        ("203.0.113.15", True),
        ("203.0.113.16", False),
        ("", False),
        ("/run/socket", False),
        ("a.example", False),
    ],
)
def test_an_address_is_on_a_list_when_an_address_range_or_block_has_it(ip: str, listed: bool) -> None:
    some = lists(blacklist=CLIENTS)
    assert bool(some.blacklisted(ip)) is listed
    assert not some.whitelisted(ip, "smtp")
    assert not some.bypasses(ip)
    assert lists(bypass_gateways=CLIENTS).bypasses(ip) is listed


@pytest.mark.parametrize("tick", TICKS)
def test_each_kind_of_trust_stands_alone(tick: str) -> None:
    some = lists(**{f"whitelist_{tick}": "192.0.2.0/28 2001:db8::/32"})
    for ip in ("192.0.2.1", "2001:db8::1"):
        assert [other for other in TICKS if some.whitelisted(ip, other)] == [tick]
        assert not some.blacklisted(ip)


def test_the_smallest_network_tells_why() -> None:
    some = Listing(
        [
            Listed("blacklist", "192.0.2.0/24", reason="the provider"),
            Listed("blacklist", "192.0.2.9", reason="spam run", author="ann"),
            Listed("blacklist", "192.0.2.8/30"),
        ]
    )
    assert some.blacklisted("192.0.2.9") == "192.0.2.9 (spam run, by ann)"
    assert some.blacklisted("192.0.2.10") == "192.0.2.8/30"
    assert some.blacklisted("192.0.2.12") == "192.0.2.0/24 (the provider)"


def test_entries_for_the_same_network_each_count_and_end_by_themselves() -> None:
    first = Listed("blacklist", "192.0.2.0/30", reason="a block", until_at=50.0)
    second = Listed("blacklist", "192.0.2.0-192.0.2.3", reason="a range", until_at=60.0)
    some = Listing([first, second])
    assert "a block" in some.blacklisted("192.0.2.1", 49.9)
    assert "a range" in some.blacklisted("192.0.2.1", 50.0)
    assert not some.blacklisted("192.0.2.1", 60.0)
    some.remove(first)
    assert "a range" in some.blacklisted("192.0.2.1", 1.0)
    some.remove(second)
    assert not some.blacklisted("192.0.2.1")


PATTERNS = """boss@partner.example Bad.Example *@worse.example *.worst.example *@*.deep.example abuse@*
    News*@shop.example ad@mail*.example"""


@pytest.mark.parametrize(
    ("sender", "listed"),
    [
        ("boss@partner.example", True),
        ("BOSS@partner.example", True),
        ("boss2@partner.example", False),
        ("boss@sub.partner.example", False),
        ("anybody@bad.example", True),
        ("anybody@notbad.example", False),
        ("anybody@sub.bad.example", False),
        ("a@worse.example", True),
        ("a@worst.example", False),
        ("a@sub.worst.example", True),
        ("a@a.b.worst.example", True),
        ("a@xworst.example", False),
        ("a@b.deep.example", True),
        ("a@deep.example", False),
        ("abuse@anywhere.example", True),
        ("abuse2@anywhere.example", False),
        ("newsletter-4711@shop.example", True),
        ("news@shop.example", True),
        ("anews@shop.example", False),
        ("ad@mail7.example", True),
        ("ad@mail.a.example", True),
        ("bad@mail7.example", False),
        ('"odd one"@bad.example', True),
        ("postmaster@", False),
    ],
)
def test_a_sender_is_on_a_list_when_a_pattern_fits(sender: str, listed: bool) -> None:
    local, _, domain = sender.rpartition("@")
    address = Address(local, domain)
    assert lists(blocked_senders=PATTERNS).sender(address, ()) == ("blocked" if listed else "")
    trusting = lists(trusted_senders=PATTERNS)
    assert trusting.sender(address, ()) == ""
    assert trusting.sender(address, {"other.example"}) == ""
    assert trusting.sender(address, {"other.example", domain}) == ("trusted" if listed else "")


@pytest.mark.parametrize(
    ("authenticated", "said"),
    [
        ({"bad.example"}, "blocked"),
        ({"a.worst.example"}, "blocked"),
        ({"partner.example"}, ""),  # only one of its senders is
        ({"shop.example"}, ""),
        ({"fine.example", "worse.example"}, "blocked"),
        ({"fine.example"}, ""),
        ((), ""),
    ],
)
def test_an_authenticated_domain_is_blocked_when_everybody_there_is(authenticated: set[str], said: str) -> None:
    some = lists(blocked_senders=PATTERNS)
    assert some.sender(Address("a", "fine.example"), authenticated) == said
    assert some.sender(None, authenticated) == said


def test_nobody_trusts_the_null_sender() -> None:
    assert lists(trusted_senders="*@a.example").sender(None, {"a.example"}) == ""


def test_blocked_goes_before_trusted_wherever_each_stands() -> None:
    boss, domain = Address("boss", "a.example"), {"a.example"}
    blocking, trusting = lists(blocked_senders="a.example"), lists(trusted_senders="boss@a.example")
    both = lists(blocked_senders="a.example", trusted_senders="boss@a.example")
    for some in (both, Joined(blocking, trusting), Joined(trusting, blocking)):
        assert some.sender(boss, domain) == "blocked"
    assert Joined(trusting, Listing()).sender(boss, domain) == "trusted"
    assert Joined(Listing(), trusting).sender(boss, domain) == "trusted"
    assert Joined(Listing(), Listing()).sender(boss, domain) == ""


def test_joined_lists_are_both() -> None:
    one = lists(whitelist_smtp="192.0.2.1", blacklist="192.0.2.2", bypass_gateways="192.0.2.3")
    for joined in (Joined(one, Listing()), Joined(Listing(), one)):
        assert joined.whitelisted("192.0.2.1", "smtp")
        assert not joined.whitelisted("192.0.2.1", "spam")
        assert joined.blacklisted("192.0.2.2") == "192.0.2.2"
        assert joined.bypasses("192.0.2.3")
        assert not joined.bypasses("192.0.2.1")


@pytest.mark.parametrize("value", ["", "192.0.2", "192.0.2.9-192.0.2.1", "192.0.2.1-2001:db8::1", "192.0.2.1/24", "a"])
def test_what_is_no_address_is_not_taken(value: str) -> None:
    with pytest.raises(ValueError):
        blocks(value)


# --- against the obvious ---------------------------------------------------------------------------------------------

_NEAR = st.integers(0, 300).map(lambda number: str(IPv4Address(0xC0000200 + number)))
_SPANS = st.one_of(
    _NEAR,
    st.tuples(_NEAR, _NEAR).map(lambda two: "-".join(sorted(two, key=lambda each: int(ip_address(each))))),
    st.tuples(_NEAR, st.integers(22, 32)).map(lambda two: str(ip_network(f"{two[0]}/{two[1]}", strict=False))),
)


def _has(value: str, ip: str) -> bool:
    if "-" in value:
        first, last = map(ip_address, value.split("-"))
        return int(first) <= int(ip_address(ip)) <= int(last)
    return ip_address(ip) in ip_network(value)


@given(st.lists(_SPANS, max_size=12, unique=True), st.data())
def test_looking_up_is_walking_through(values: list[str], data: st.DataObject) -> None:
    some = Listing(Listed("blacklist", value) for value in values)
    gone = set(data.draw(st.lists(st.sampled_from(values), unique=True)) if values else ())
    for value in gone:
        some.remove(Listed("blacklist", value))
    ip = data.draw(_NEAR)
    assert bool(some.blacklisted(ip)) is any(_has(value, ip) for value in values if value not in gone)


def _fits_obviously(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return _fits_obviously(pattern[1:], text) or (bool(text) and _fits_obviously(pattern, text[1:]))
    return bool(text) and pattern[0] == text[0] and _fits_obviously(pattern[1:], text[1:])


@given(st.text("ab*", max_size=7), st.text("ab", max_size=9))
@example("a*ab*b", "ab")
@example("*ab*ab", "abab")
@example("a*a", "a")
def test_a_pattern_fits_as_anybody_would_say(pattern: str, text: str) -> None:
    assert fits(pattern, text) is _fits_obviously(pattern, text)


def test_a_pattern_of_many_stars_costs_nothing_to_speak_of() -> None:
    steps = 0

    class Counted(str):
        def find(self, *arguments: object) -> int:  # type: ignore[override]
            nonlocal steps
            steps += 1
            return str.find(self, *arguments)  # type: ignore[arg-type]

    assert not fits("*a" * 30 + "b", Counted("a" * 300))
    assert steps <= 30


@pytest.mark.parametrize(
    ("pattern", "loose"),
    [
        ("a@b.example", False),
        ("*@b.example", False),
        ("*@*.b.example", False),
        ("a@*", False),
        ("a*@b.example", True),
        ("*@b*.example", True),
        ("*@*.b*.example", True),
        ("a@*.b.example", True),
        ("a*@*", True),
    ],
)
def test_which_patterns_are_tried_one_by_one(pattern: str, loose: bool) -> None:
    assert is_loose(pattern) is loose
