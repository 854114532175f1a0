"""The list of all kinds of check.

Knows their names and classes. Does not know their settings, nor when they run: a kind exists when it stands here.
"""

from __future__ import annotations

from collections.abc import Mapping

from inboundmx.checks.api import Check
from inboundmx.checks.arc import Arc
from inboundmx.checks.attachments import Attachments
from inboundmx.checks.bayes import Bayes
from inboundmx.checks.blocked import Blocked
from inboundmx.checks.clamav import ClamAV
from inboundmx.checks.command import Command
from inboundmx.checks.dkim import Dkim
from inboundmx.checks.dmarc import Dmarc
from inboundmx.checks.dnsbl import DnsList
from inboundmx.checks.early_talker import EarlyTalker
from inboundmx.checks.greylist import Greylist
from inboundmx.checks.headers import Headers
from inboundmx.checks.helo import Helo
from inboundmx.checks.ratelimit import RateLimit
from inboundmx.checks.rdns import ReverseDns
from inboundmx.checks.recipient import Recipient
from inboundmx.checks.rspamd import Rspamd
from inboundmx.checks.spamassassin import SpamAssassin
from inboundmx.checks.spf import Spf
from inboundmx.checks.uribl import UriList

KINDS: Mapping[str, type[Check]] = {
    Arc.kind: Arc,
    Attachments.kind: Attachments,
    Bayes.kind: Bayes,
    Blocked.kind: Blocked,
    ClamAV.kind: ClamAV,
    Command.kind: Command,
    Dkim.kind: Dkim,
    Dmarc.kind: Dmarc,
    DnsList.kind: DnsList,
    EarlyTalker.kind: EarlyTalker,
    Greylist.kind: Greylist,
    Headers.kind: Headers,
    Helo.kind: Helo,
    RateLimit.kind: RateLimit,
    Recipient.kind: Recipient,
    ReverseDns.kind: ReverseDns,
    Rspamd.kind: Rspamd,
    SpamAssassin.kind: SpamAssassin,
    Spf.kind: Spf,
    UriList.kind: UriList,
}

# Those that weigh nothing for who is whitelisted for spam, or trusted.
ABOUT_SPAM = frozenset(kind for kind, made in KINDS.items() if made.about in ("spam", "origin"))
