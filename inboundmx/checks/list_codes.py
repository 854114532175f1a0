"""What the return codes of a list in DNS mean to the operator, as the key ``codes`` has it.

Knows ranges of codes and the words for them, the gravest first. Does not know what a list was asked about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any, TypeVar

from inboundmx.checks.api import Option

# The first and the last code, and the word for them.
Meaning = tuple[IPv4Address, IPv4Address, str]

T = TypeVar("T")


def codes_option(example: str) -> Option:
    return Option(
        "codes", "codes", (),
        f"what its return codes mean: {example}, the gravest first; each word is an outcome of its own; codes not named"
        " count as absent; empty: every code is listed",
    )  # fmt: skip


def words_of(options: Mapping[str, Any]) -> frozenset[str]:
    """The outcomes that ``codes`` names."""
    return frozenset(word for _first, _last, word in options["codes"])


def gravest(meanings: Sequence[Meaning], named: Mapping[T, Sequence[IPv4Address]]) -> tuple[str, T] | None:
    """The gravest word for what a list names, by the codes it answered, and whom it is said of; None: there is none."""
    if not meanings:
        return next((("listed", each) for each in named), None)
    for first, last, word in meanings:
        for each, codes in named.items():
            if any(first <= code <= last for code in codes):
                return word, each
    return None
