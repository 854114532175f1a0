"""Whether a list in DNS names the client's address (RFC 5782): block lists, and with negative weights allow lists.

Knows how lists of addresses are asked. Does not know what their codes mean (``list_codes``), nor when a list is to be
believed: ``zones`` does, and one that is not never scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, ip_address
from typing import Any, ClassVar, Literal

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.checks.list_codes import Meaning, codes_option, gravest, words_of
from inboundmx.checks.reverse import reversed_labels
from inboundmx.checks.zones import ADDRESSES, Probe, point, public
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.verdict import Weight

CODES_SHOWN = 8
# Addresses that an operator may name as clean.
CLEAN = 10


class DnsList(Check):
    """``listed``, or the word that ``codes`` has for what the list answered: the first in the order of ``codes``, where
    several are answered. ``absent``: not on the list, or with a code that ``codes`` does not name."""

    kind: ClassVar[str] = "dnsbl"
    stage: ClassVar[Stage] = Stage.CONNECT
    about: ClassVar[Literal["spam", "origin", "other"]] = "spam"
    client: ClassVar[Literal["", "address", "connection"]] = "address"
    outcomes: ClassVar[frozenset[str]] = frozenset({"listed", "absent"})
    after: ClassVar[frozenset[str]] = frozenset()
    weights: ClassVar[Mapping[str, Weight]] = {}
    options: ClassVar[tuple[Option, ...]] = (
        Option("zone", "hostname", "", "the list, such as zen.spamhaus.org", required=True),
        codes_option("127.0.0.2-127.0.0.3=listed 127.0.0.10=policy"),
        Option(
            "ignore", "networks", (IPv4Network("127.255.255.0/24"),),
            "return codes by which the list says that it does not answer us: the outcome is error",
        ),
        Option(
            "probe", "yes", True,
            "asks the list at the start and every hour about the test points of RFC 5782; no: of a list without any",
        ),
        Option("clean", "addresses", (), "addresses that it never names: if it does, it is suspended; at most 10"),
    )  # fmt: skip

    @classmethod
    def words(cls, options: Mapping[str, Any]) -> frozenset[str]:
        return cls.outcomes | words_of(options)

    @classmethod
    def probes(cls, options: Mapping[str, Any]) -> tuple[Probe, ...]:
        clean = tuple(map(point, map(ip_address, options["clean"])))
        tests = ADDRESSES if options["probe"] else ()
        return (Probe(options["zone"], tests, clean, tuple(options["ignore"]), own=True),)

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None:
        self._meanings: Sequence[Meaning] = options["codes"]
        if len(options["clean"]) > CLEAN:
            raise ValueError(f"clean names more than {CLEAN} addresses")
        if tools is not None:
            assert tools.zones is not None
            self._seconds = tools.timeout
            (probe,) = self.probes(options)
            self._zone = tools.zones.zone(probe)

    async def examine(self, case: Case) -> Finding:
        labels = _labels(case.session.peer_ip)
        if labels is None:
            return Finding("absent", "a client of our own network is not asked about")
        codes = await self._zone.codes(labels, self._seconds)
        if not codes:
            return Finding("absent")
        detail = " ".join(map(str, codes[:CODES_SHOWN]))
        found = gravest(self._meanings, {labels: codes})
        return Finding(found[0], detail) if found else Finding("absent", f"{detail} is not among the codes")


@lru_cache(maxsize=1024)
def _labels(text: str) -> str | None:
    """How lists are asked about a client; None: they are not."""
    peer = public(text)
    return None if peer is None else reversed_labels(peer)
