"""A look-up among a hundred thousand entries takes the steps of one among ten."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address

import pytest
from fakes.steps import steps

from inboundmx.model.address import Address
from inboundmx.model.listing import Listed
from inboundmx.policy.listing import MOST_LOOSE, Listing

MANY = 100_000
SOMEBODY = Address("somebody", "mail.elsewhere.example")


def filled(entries: int) -> Listing:
    """A third each of addresses, senders and domains; a network of each of four sizes."""
    listing = Listing(Listed("blacklist", f"10.{size}.0.0/{size}") for size in (16, 20, 24, 28))
    for number in range(entries // 3):
        listing.add(Listed("blacklist", str(IPv4Address(0xC0000000 + 7 * number))))
        listing.add(Listed("blocked-sender", f"sender{number}@bad.example"))
        listing.add(Listed("blocked-sender", f"*@bad{number}.example"))
    return listing


@pytest.fixture(scope="module")
def few() -> Listing:
    return filled(10)


@pytest.fixture(scope="module")
def many() -> Listing:
    return filled(MANY)


@pytest.mark.parametrize(
    ("look", "most"),
    [
        (lambda listing: listing.blacklisted("203.0.113.9"), 250),
        (lambda listing: listing.blacklisted("192.0.0.7"), 250),
        (lambda listing: listing.whitelisted("203.0.113.9", "smtp"), 100),
        (lambda listing: listing.sender(SOMEBODY, ("elsewhere.example", "mail.elsewhere.example")), 500),
    ],
    ids=["a stranger", "somebody listed", "a list that is empty", "a sender"],
)
def test_a_look_up_does_not_grow_with_the_list(
    few: Listing, many: Listing, look: Callable[[Listing], object], most: int
) -> None:
    assert steps(lambda: look(many)) == steps(lambda: look(few)) <= most


def test_only_loose_patterns_are_walked_through_and_of_these_there_are_few() -> None:
    loose = Listing(Listed("blocked-sender", f"news{number}*@shop.example") for number in range(MOST_LOOSE))
    assert steps(lambda: loose.sender(SOMEBODY, ())) < 100 * MOST_LOOSE
    assert loose.sender(Address("news199-x", "shop.example"), ()) == "blocked"
