"""What the client calls itself in EHLO or HELO (RFC 5321 2.3.5, 4.1.1.1).

Knows names and literals, and our own. Does not know what a wrong one is worth: RFC 5321 4.1.4 forbids to refuse mail
for it alone, and so nothing here weighs anything by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.checks.reverse import host_name
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.ip import IP, ip_of
from inboundmx.model.session import Session
from inboundmx.model.verdict import Weight
from inboundmx.ports import Resolver


class Helo(Check):
    """``ok``: a host name that is in DNS. ``unresolvable``: one that is not (neither A, AAAA nor MX). ``literal``: an
    address in brackets. ``our_name``: our own name or address, said by somebody else. ``invalid``: none of these, such
    as a bare address or a name without a dot."""

    kind: ClassVar[str] = "helo"
    stage: ClassVar[Stage] = Stage.HELLO
    about: ClassVar[Literal["spam", "origin", "other"]] = "spam"
    client: ClassVar[Literal["", "address", "connection"]] = "address"
    outcomes: ClassVar[frozenset[str]] = frozenset({"ok", "invalid", "our_name", "literal", "unresolvable"})
    after: ClassVar[frozenset[str]] = frozenset()
    weights: ClassVar[Mapping[str, Weight]] = {}
    options: ClassVar[tuple[Option, ...]] = ()

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None:
        self._resolver: Resolver | None = None
        if tools is not None:
            gateway = tools.settings.gateway
            self._resolver = tools.resolver
            self._names = frozenset(
                name.lower().removesuffix(".") for name in (gateway.hostname, *gateway.hostnames.values())
            )
            self._addresses = frozenset(map(ip_of, (*gateway.addresses, *gateway.hostnames)))

    async def examine(self, case: Case) -> Finding:
        resolver = self._resolver
        assert resolver is not None
        session = case.session
        hello = session.hello.lower().removesuffix(".")
        if hello.startswith("["):
            literal = _literal(hello)
            if literal is None:
                return Finding("invalid", f"{session.hello} is no address literal")
            if (literal in self._addresses or literal == ip_of(session.local_ip)) and not _ourselves(session):
                return Finding("our_name", f"{session.hello} is our address")
            return Finding("literal")
        if not host_name(hello):
            return Finding("invalid", f"{session.hello} is no host name with a domain")
        if hello in self._names and not _ourselves(session):
            return Finding("our_name", f"{session.hello} is our name")
        for type in ("A", "AAAA", "MX"):
            answer = await resolver.look_up(hello, type)
            if not answer.exists:
                break
            # (0, "") is the MX of a domain that takes no mail (RFC 7505).
            if any(row != (0, "") for row in answer.rows):
                return Finding("ok")
        return Finding("unresolvable", f"{session.hello} is not in DNS")


def _literal(text: str) -> IP | None:
    """The address of ``[192.0.2.1]`` or ``[IPv6:2001:db8::1]`` (RFC 5321 4.1.3), case aside."""
    if not text.endswith("]"):
        return None
    inner = text[1:-1]
    if inner.startswith("ipv6:"):
        return ip_of(inner[5:]) if ":" in inner[5:] else None
    return None if ":" in inner else ip_of(inner)


def _ourselves(session: Session) -> bool:
    """Whether the client runs on this very machine, and may well have our name."""
    peer = ip_of(session.peer_ip)
    return peer is not None and (peer.is_loopback or peer == ip_of(session.local_ip))
