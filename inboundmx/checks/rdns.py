"""Whether the client's address has a name, and the name that address (forward-confirmed reverse DNS, RFC 8601 3).

Knows PTR, A and AAAA. Does not know what a missing name is worth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address
from typing import Any, ClassVar, Literal

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.checks.reverse import host_name, reverse_name
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.ip import IP, ip_of
from inboundmx.model.verdict import Weight
from inboundmx.ports import Resolver, Unavailable

# Names of one address that are looked at: its owner may give it thousands.
NAMES_LIMIT = 10


class ReverseDns(Check):
    """``confirmed``: a name of the client's address leads back to it; the detail is that name alone. ``unconfirmed``:
    it has names, and none does. ``none``: it has no name."""

    kind: ClassVar[str] = "rdns"
    stage: ClassVar[Stage] = Stage.CONNECT
    about: ClassVar[Literal["spam", "origin", "other"]] = "origin"
    client: ClassVar[Literal["", "address", "connection"]] = "address"
    outcomes: ClassVar[frozenset[str]] = frozenset({"confirmed", "unconfirmed", "none"})
    after: ClassVar[frozenset[str]] = frozenset()
    weights: ClassVar[Mapping[str, Weight]] = {}
    options: ClassVar[tuple[Option, ...]] = ()

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None:
        self._resolver = None if tools is None else tools.resolver

    async def examine(self, case: Case) -> Finding:
        resolver = self._resolver
        assert resolver is not None
        peer = ip_of(case.session.peer_ip)
        if peer is None:
            raise Unavailable("the client has no IP address")
        names = list(dict.fromkeys((await resolver.look_up(reverse_name(peer), "PTR")).rows))[:NAMES_LIMIT]
        if not names:
            return Finding("none", f"{peer} has no name")
        unknown: Unavailable | None = None
        for name in filter(host_name, names):
            try:
                if await _leads_to(resolver, name, peer):
                    return Finding("confirmed", name)
            except Unavailable as trouble:
                # Another name may still lead back; only when none does is it not known.
                unknown = trouble
        if unknown is not None:
            raise unknown
        return Finding("unconfirmed", f"{names[0]} does not lead back to {peer}")


async def _leads_to(resolver: Resolver, name: str, peer: IP) -> bool:
    answer = await resolver.look_up(name, "A" if isinstance(peer, IPv4Address) else "AAAA")
    return any(ip_of(row) == peer for row in answer.rows)


def confirmed_name(results: Iterable[CheckResult]) -> str:
    """The client's name as this check confirmed it, else empty."""
    for result in results:
        if result.kind == ReverseDns.kind and result.finding.outcome == "confirmed":
            return result.finding.detail
    return ""
