"""Whether a list in DNS names the client's address (RFC 5782): block lists, and with negative weights allow lists.

Knows how lists are asked, what their codes mean to the operator, and when a list is not to be believed: it answers with
codes for trouble, or with addresses that are none of a list's, or it fails its own test. Such a list never scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Any, ClassVar, Literal

from twisted.internet.defer import CancelledError

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.checks.reverse import reversed_labels
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.ip import IP, ip_of
from inboundmx.model.verdict import Weight
from inboundmx.ports import Answer, Unavailable

# RFC 5782 5: every list names 127.0.0.2, one of IPv6 addresses alone the same mapped, and never 127.0.0.1.
LISTED_FOR_TEST, LISTED_FOR_TEST_6 = IPv4Address("127.0.0.2"), IPv6Address("::ffff:127.0.0.2")
ABSENT_FOR_TEST = IPv4Address("127.0.0.1")
# Seconds until a list is tested anew: one that passed, one that failed, one that could not be asked.
PASSED_SECONDS, FAILED_SECONDS, UNTESTED_SECONDS = 3600.0, 300.0, 60.0
CODES = IPv4Network("127.0.0.0/8")
# Clients that no public list knows, and that are nobody else's business: RFC 1918, 6598, 3927, 4193, loopback.
NOT_ASKED: tuple[IPv4Network | IPv6Network, ...] = tuple(
    ip_network(text)
    for text in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
)
CODES_SHOWN = 8
# Of the time a check has, what has gone by when it is over: it is counted from a moment before the check begins.
NEARLY = 0.99


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
        Option(
            "codes", "codes", (),
            "what its return codes mean: 127.0.0.2-127.0.0.3=listed 127.0.0.10=policy, the gravest first; each word is"
            " an outcome of its own; codes not named count as absent; empty: every code is listed",
        ),
        Option(
            "ignore", "networks", (IPv4Network("127.255.255.0/24"),),
            "return codes by which the list says that it does not answer us: the outcome is error",
        ),
    )  # fmt: skip

    @classmethod
    def words(cls, options: Mapping[str, Any]) -> frozenset[str]:
        return cls.outcomes | {word for _first, _last, word in options["codes"]}

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None:
        self._zone: str = options["zone"]
        self._codes: Sequence[tuple[IPv4Address, IPv4Address, str]] = options["codes"]
        self._ignore: Sequence[IPv4Network | IPv6Network] = options["ignore"]
        self._tools = tools
        # Until it was tested nothing is known of a list; then why it is not believed, empty when it is.
        self._suspended: str | None = None
        self._test_at = 0.0

    async def examine(self, case: Case) -> Finding:
        peer = _public(case.session.peer_ip)
        if peer is None:
            return Finding("absent", "a client of our own network is not asked about")
        assert self._tools is not None
        started = self._tools.clock.monotonic()
        try:
            return await self._examine(peer)
        except Unavailable as trouble:
            self._note(False, trouble.reason)
            raise
        except CancelledError:
            # Its time is over, or the client has gone, which says nothing of the list.
            if self._tools.clock.monotonic() - started >= self._tools.timeout * NEARLY:
                self._note(False, f"no answer within {self._tools.timeout:g} s")
            raise

    async def _examine(self, peer: IP) -> Finding:
        await self._tested()
        if self._suspended:
            return Finding("error", f"suspended: {self._suspended}")
        answer = await self._asked(peer)
        codes = _codes(answer)
        wrong = self._wrong(codes)
        self._note(not wrong, wrong or "answers")
        if wrong:
            return Finding("error", wrong)
        if not codes:
            return Finding("absent")
        detail = " ".join(map(str, codes[:CODES_SHOWN]))
        if not self._codes:
            return Finding("listed", detail)
        for first, last, word in self._codes:
            if any(first <= code <= last for code in codes):
                return Finding(word, detail)
        return Finding("absent", f"{detail} is not among the codes")

    async def _asked(self, about: IP) -> Answer:
        assert self._tools is not None
        return await self._tools.resolver.look_up(f"{reversed_labels(about)}.{self._zone}", "A")

    def _wrong(self, codes: Sequence[IPv4Address]) -> str:
        """Why this answer is none of a list's."""
        for code in codes:
            if code not in CODES:
                return f"{self._zone} answers {code}, which is no code of a list"
            if any(code in network for network in self._ignore):
                return f"{self._zone} does not answer us: {code}"
        return ""

    # --- its own test -------------------------------------------------------------------------------------------------

    async def _tested(self) -> None:
        """Tests the list when it is time. A first test is waited for by all, a later one by who happens to come."""
        assert self._tools is not None
        now = self._tools.clock.monotonic()
        if self._suspended is not None and now < self._test_at:
            return
        self._test_at = now + UNTESTED_SECONDS
        suspended = await self._fault()
        self._suspended = suspended
        self._test_at = now + (FAILED_SECONDS if suspended else PASSED_SECONDS)
        if suspended:
            self._note(False, f"suspended: {suspended}")

    async def _fault(self) -> str:
        """Why the list is not to be believed; empty when it passes."""
        listed, absent = _codes(await self._asked(LISTED_FOR_TEST)), _codes(await self._asked(ABSENT_FOR_TEST))
        if wrong := self._wrong([*listed, *absent]):
            return wrong
        if absent:
            return f"{self._zone} lists everything, even 127.0.0.1"
        if listed or _codes(await self._asked(LISTED_FOR_TEST_6)):
            return ""
        return f"{self._zone} lists nothing, not even 127.0.0.2"

    def _note(self, well: bool, detail: str) -> None:
        assert self._tools is not None
        self._tools.health.noted(self._zone, well, detail)


@lru_cache(maxsize=1024)
def _public(text: str) -> IP | None:
    peer = ip_of(text)
    return None if peer is None or any(peer in network for network in NOT_ASKED) else peer


def _codes(answer: Answer) -> list[IPv4Address]:
    return sorted(map(IPv4Address, answer.rows))
