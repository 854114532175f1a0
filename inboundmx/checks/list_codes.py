"""What the return codes of a list in DNS mean to the operator, as the key ``codes`` has it.

Knows ranges and bits of codes and the words for them, the gravest first. Does not know what a list was asked about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any, NamedTuple, TypeVar

from inboundmx.checks.api import Option


class Meaning(NamedTuple):
    """The word for all codes from ``first`` to ``last``; where ``bits`` is not 0, for those of them in whose last octet
    any of these bits is set."""

    first: IPv4Address
    last: IPv4Address
    word: str
    bits: int = 0

    def fits(self, code: IPv4Address) -> bool:
        return self.first <= code <= self.last and (not self.bits or bool(int(code) & self.bits))


T = TypeVar("T")


def codes_option(example: str) -> Option:
    return Option(
        "codes", "codes", (),
        f"what its return codes mean: {example}, the gravest first; each word is an outcome of its own; codes not named"
        " count as absent; empty: every code is listed",
    )  # fmt: skip


def words_of(options: Mapping[str, Any]) -> frozenset[str]:
    """The outcomes that ``codes`` names."""
    return frozenset(meaning.word for meaning in options["codes"])


def gravest(meanings: Sequence[Meaning], named: Mapping[T, Sequence[IPv4Address]]) -> tuple[str, T] | None:
    """The gravest word for what a list names, by the codes it answered, and whom it is said of; None: there is none."""
    if not meanings:
        return next((("listed", each) for each in named), None)
    for meaning in meanings:
        for each, codes in named.items():
            if any(map(meaning.fits, codes)):
                return meaning.word, each
    return None
