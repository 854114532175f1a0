"""The domain an organisation registered: what a name is measured by where two are to belong together.

Knows the public suffix list that the library brings: it is asked where nobody waits for DNS, and before DMARC, which
goes by the records there, has asked for any (``dmarc_tree``). Does not know what depends on it.
"""

from __future__ import annotations

from functools import cache, lru_cache

from publicsuffixlist import PublicSuffixList


@cache
def load() -> PublicSuffixList:
    """The list; reading it takes a tenth of a second, so whoever needs it asks at the start."""
    return PublicSuffixList()


@lru_cache(maxsize=4096)
def organizational_domain(name: str) -> str:
    """``mail.a.co.uk`` is of ``a.co.uk``; a name that is a public suffix itself stands for itself alone."""
    return load().privatesuffix(name) or name


def aligned(one: str, other: str) -> bool:
    """Whether two domains are of one organisation (relaxed alignment, RFC 7489 3.1)."""
    return one == other or organizational_domain(one) == organizational_domain(other)
