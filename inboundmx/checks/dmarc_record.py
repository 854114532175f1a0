"""DMARC policy records (RFC 9989 4.7), and what the records above a name say of it (4.10).

Knows the tags, what holds where one is wrong, and how the tree is walked. Does not know who asks DNS, nor what was
authenticated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

# Octets of a record that are read, and labels of the first name above one that is longer: so there are eight at most.
RECORD_LIMIT = 4096
LABELS = 7
POLICIES = ("none", "quarantine", "reject")

_VERSION = re.compile(rb"[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|$)")
_REPORTS = re.compile(r"(?:^|,)[ \t]*mailto:[^\s,;@]+@[^\s,;@]", re.IGNORECASE)


class Record(NamedTuple):
    """``policy``, ``subdomains`` and ``absent`` are p=, sp= and np=, empty where they are not said; ``usable``: they
    can be gone by. ``strict_dkim``, ``strict_spf``: adkim=s, aspf=s. ``suffix`` is psd=: y, n or u. ``testing``: t=y.
    """

    usable: bool
    policy: str = ""
    subdomains: str = ""
    absent: str = ""
    strict_dkim: bool = False
    strict_spf: bool = False
    suffix: str = "u"
    testing: bool = False


class Place(NamedTuple):
    """Where a name belongs: ``organization`` is the name of its organizational domain; ``source`` the name whose record
    holds for it, None when none does; ``record`` is that record."""

    organization: str
    source: str | None
    record: Record | None


def record_of(rows: Sequence[bytes]) -> Record | None:
    """The record among the TXT rows of a ``_dmarc`` name; several are as good as none (RFC 9989 4.10)."""
    found = [row for row in rows if _VERSION.match(row)]
    return _record(found[0]) if len(found) == 1 else None


@lru_cache(maxsize=1024)
def _record(row: bytes) -> Record:
    if len(row) > RECORD_LIMIT:
        return Record(usable=False)
    tags: dict[str, str] = {}
    for part in row.decode("ascii", "replace").split(";"):
        name, equals, value = part.partition("=")
        if equals:
            tags.setdefault(name.strip(" \t").lower(), value.strip(" \t"))
    policy, subdomains, absent = (tags.get(name, "").lower() for name in ("p", "sp", "np"))
    right = policy in POLICIES and {subdomains, absent} <= {"", *POLICIES}
    if not right:
        # Where somebody wants reports it is meant as a policy, but nothing is done to mail by what cannot be read.
        policy, subdomains, absent = "none", "", ""
    return Record(
        right or _REPORTS.search(tags.get("rua", "")) is not None,
        policy,
        subdomains,
        absent,
        tags.get("adkim", "").lower() == "s",
        tags.get("aspf", "").lower() == "s",
        suffix if (suffix := tags.get("psd", "").lower()) in ("y", "n") else "u",
        tags.get("t", "").lower() == "y",
    )


def walk(domain: str) -> tuple[str, ...]:
    """The names whose records are looked at for a domain, from itself up: eight at most, however long it is."""
    labels = domain.split(".")
    first = max(1, len(labels) - LABELS)
    return (domain, *(".".join(labels[at:]) for at in range(first, len(labels))))


def place(domain: str, record_at: Callable[[str], Record | None]) -> Place:
    """``record_at`` is asked for the names of the walk in its order, as far as they matter, and may raise."""
    found: dict[str, Record] = {}
    top = domain
    for name in walk(domain):
        record = record_at(name)
        if record is not None:
            found[name], top = record, name
            if record.suffix == "n" or (record.suffix == "y" and name != domain):
                break
    # Below a public suffix the organization is what stands right below it, whether it has a record or not.
    organization = _one_below(domain, top) if top != domain and found[top].suffix == "y" else top
    for source in (domain, organization, top):
        if source in found:
            return Place(organization, source, found[source])
    return Place(organization, None, None)


def _one_below(domain: str, name: str) -> str:
    labels = domain.split(".")
    return ".".join(labels[-name.count(".") - 2 :])
