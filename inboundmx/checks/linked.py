"""Whom the links of a message belong to, found once for all checks that ask lists about it.

Knows domains, addresses, and that a link may be shown as another one. Does not know lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from inboundmx.checks.api import Case, Tools
from inboundmx.checks.link_hosts import Host, host_shown, hosts
from inboundmx.checks.once import OncePerMessage
from inboundmx.checks.organization import organizational_domain
from inboundmx.checks.reading import read
from inboundmx.model.ip import IP
from inboundmx.policy.html_text import Link

# Links that are looked at on the reactor, within a few milliseconds, letters of them all, and of those that hold more
# than ASCII or octets in percent: these cost up to twenty times as much. More of them are looked at in a thread.
AT_ONCE, LETTERS, ODD_LETTERS = 100, 32 * 1024, 2 * 1024


class Linked(NamedTuple):
    """``owners``: registered domains and addresses, each once; those of links that are clicked stand first, then those
    of pictures and bare text. ``mismatch``: one that is shown as another, empty where there is none."""

    owners: tuple[Host, ...]
    mismatch: str


_found: OncePerMessage[Linked] = OncePerMessage()


async def linked(case: Case, tools: Tools) -> Linked:
    """Raises Unavailable when the body cannot be read, or no thread is free."""
    message = case.message
    assert message is not None
    found = _found.kept.get(message)
    if found is not None:
        return found
    links = (await read(case, tools)).links
    return await _found.get(
        message,
        lambda: owners(links) if _few(links) else None,
        lambda: tools.offload.run(owners, links),
    )


def _few(links: Sequence[Link]) -> bool:
    if len(links) > AT_ONCE:
        return False
    texts = [text for link in links for text in link]
    odd = (len(text) for text in texts if "%" in text or not text.isascii())
    return sum(map(len, texts)) <= LETTERS and sum(odd) <= ODD_LETTERS


def owners(links: Sequence[Link]) -> Linked:
    found: dict[Host, None] = {}
    mismatch = ""
    for link in sorted(links, key=lambda link: not link.shown):
        leads_to = hosts(link.href)
        found.update((owner(host), None) for host in leads_to)
        if link.shown and leads_to and not mismatch:
            as_shown = host_shown(link.shown)
            if as_shown is not None and owner(as_shown) != owner(leads_to[0]):
                mismatch = f"{as_shown} leads to {leads_to[0]}"
    return Linked(tuple(found), mismatch)


def owner(host: Host) -> str | IP:
    return organizational_domain(host) if isinstance(host, str) else host
