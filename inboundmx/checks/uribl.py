"""Whether a list in DNS names a domain that the links of a message lead to (SURBL, URIBL, Spamhaus DBL).

Knows how lists of domains are asked. Does not know how links are found (``linked``), what codes mean (``list_codes``),
nor when a list is to be believed (``zones``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from typing import Any, ClassVar, Literal

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.checks.link_hosts import Host
from inboundmx.checks.linked import linked
from inboundmx.checks.list_codes import Meaning, codes_option, gravest, words_of
from inboundmx.checks.organization import load
from inboundmx.checks.reverse import reversed_labels
from inboundmx.checks.zones import ADDRESSES, NAMES, Probe, public
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.verdict import Weight
from inboundmx.ports import Unavailable
from inboundmx.prompt import promptly

SHOWN = 8


class UriList(Check):
    """``listed``, or the word that ``codes`` has for what the list answered, the first in the order of ``codes`` of all
    that it names; ``mismatch``: it names none, and a link is shown as one to somewhere else; ``absent``: neither.

    Asked is the domain that somebody registered, and of addresses their labels in reverse; never our own domains.
    """

    kind: ClassVar[str] = "uribl"
    stage: ClassVar[Stage] = Stage.MESSAGE
    about: ClassVar[Literal["spam", "origin", "other"]] = "spam"
    outcomes: ClassVar[frozenset[str]] = frozenset({"listed", "mismatch", "absent"})
    after: ClassVar[frozenset[str]] = frozenset()
    weights: ClassVar[Mapping[str, Weight]] = {}
    options: ClassVar[tuple[Option, ...]] = (
        Option("zone", "hostname", "", "the list, such as dbl.spamhaus.org", required=True),
        codes_option("127.0.1.2=spam 127.0.1.4=phish"),
        Option(
            "ignore", "networks",
            (IPv4Network("127.0.0.1/32"), IPv4Network("127.0.1.255/32"), IPv4Network("127.255.255.0/24")),
            "return codes by which the list says that it does not answer us: the outcome is error",
        ),
        Option("addresses", "yes", True, "asks about links to bare IP addresses as well; no: of a list of names alone"),
        Option("exempt", "domain_names", (), "domains it is not asked about, with all below them; never ours"),
        Option("most", "count", 20, "domains of one message that it is asked about: the first and the last of more"),
        Option("probe", "yes", True, "asks the list at the start and every hour about its test points"),
    )  # fmt: skip

    @classmethod
    def words(cls, options: Mapping[str, Any]) -> frozenset[str]:
        return cls.outcomes | words_of(options)

    @classmethod
    def probes(cls, options: Mapping[str, Any]) -> tuple[Probe, ...]:
        tests = (*NAMES, *ADDRESSES[:1]) if options["probe"] else ()
        return (Probe(options["zone"], tests, (), tuple(options["ignore"])),)

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None:
        self._meanings: Sequence[Meaning] = options["codes"]
        self._addresses: bool = options["addresses"]
        self._most: int = options["most"]
        if tools is not None:
            assert tools.zones is not None
            self._tools = tools
            load()
            self._exempt: frozenset[str] = frozenset((*options["exempt"], *tools.settings.domains))
            (probe,) = self.probes(options)
            self._zone = tools.zones.zone(probe)

    async def examine(self, case: Case) -> Finding:
        found = await linked(case, self._tools)
        wanted = [host for host in found.owners if self._is_asked(host)]
        few = (
            wanted
            if len(wanted) <= self._most
            else [*wanted[: self._most // 2], *wanted[self._most // 2 - self._most :]]
        )
        named = await self._named(few) if few else {}
        if worst := gravest(self._meanings, named):
            word, host = worst
            return Finding(word, f"{host} {' '.join(map(str, named[host][:SHOWN]))}")
        left = "" if len(few) == len(wanted) else f"; {len(few)} of {len(wanted)} domains were asked about"
        if found.mismatch:
            return Finding("mismatch", found.mismatch + left)
        return Finding("absent", (f"{len(few)} domains" if few else "no links") + left)

    def _is_asked(self, host: Host) -> bool:
        if not isinstance(host, str):
            return self._addresses and public(str(host)) is not None
        above = host
        while above and above not in self._exempt:
            above = above.partition(".")[2]
        return not above

    async def _named(self, hosts: Sequence[Host]) -> dict[Host, list[IPv4Address]]:
        """Those that the list names, asked about side by side. Raises Unavailable when it names none and of some it is
        not known."""
        waiting: list[Deferred[Any]] = []
        came: dict[Host, list[IPv4Address] | BaseException | None] = {}
        for host in hosts:
            labels = host if isinstance(host, str) else reversed_labels(host)
            deferred = promptly(
                self._zone.codes(labels, self._tools.timeout),
                partial(came.__setitem__, host),
                partial(_failed, came, host),
            )
            if deferred is not None:
                waiting.append(deferred)
        if waiting:
            # Cancelling a DeferredList cancels what it is of.
            await DeferredList(waiting)
        failures = [each for each in came.values() if isinstance(each, BaseException)]
        named = any(codes for codes in came.values() if not isinstance(codes, BaseException))
        for failure in failures:
            if not named or not isinstance(failure, Unavailable):
                raise failure
        return {host: codes for host, codes in came.items() if codes and not isinstance(codes, BaseException)}


def _failed(came: dict[Host, list[IPv4Address] | BaseException | None], host: Host, failure: Failure) -> None:
    came[host] = failure.value
