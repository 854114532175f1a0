"""The list of all kinds of check.

Knows their names and classes. Does not know their settings, nor when they run: a kind exists when it stands here.
"""

from __future__ import annotations

from collections.abc import Mapping

from inboundmx.checks.api import Check
from inboundmx.checks.dnsbl import DnsList
from inboundmx.checks.headers import Headers
from inboundmx.checks.helo import Helo
from inboundmx.checks.rdns import ReverseDns

KINDS: Mapping[str, type[Check]] = {
    DnsList.kind: DnsList,
    Headers.kind: Headers,
    Helo.kind: Helo,
    ReverseDns.kind: ReverseDns,
}
