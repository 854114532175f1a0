"""Whether what a domain signed is what came (DKIM, RFC 6376, 8301, 8463).

Knows which signatures are looked at and what their verdicts come to. The parts know the field (``dkim_signature``), the
key (``dkim_key``), the content (``dkim_content``) and when one is right (``dkim_proof``). Does not know what a verdict
is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.checks.authentication import clause, joined
from inboundmx.checks.dkim_content import BodyForm, BodyHash, Header, fields_named
from inboundmx.checks.dkim_key import LARGEST, SMALLEST, Key
from inboundmx.checks.dkim_proof import hashes_of, keys_at, proved, uncovered
from inboundmx.checks.dkim_signature import BadSignature, Signature, signature_of
from inboundmx.checks.organization import aligned, load
from inboundmx.model.address import Address
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.message import Field, Message
from inboundmx.model.verdict import Weight

# Signatures that are looked at, from the top, and so keys that are asked for; RFC 6376 8.4 leaves the number open.
SIGNATURES = 10
# The outcome of a message is the first of these that one of its signatures has.
RANKS = ("pass", "policy", "temperror", "fail", "neutral", "permerror")


class Verdict(NamedTuple):
    """What one signature comes to. ``reason`` is of our own words; ``signature`` is None when it could not be read.
    ``testing``: its key says that it proves nothing yet."""

    outcome: str
    reason: str
    domain: str
    signature: Signature | None = None
    testing: bool = False


class Dkim(Check):
    """``policy``: the signature is right, but part of the content is not signed (l=, a second From or Subject, what
    follows a line of the header section that is no field), or the key is smaller than ``minimum_key``. ``fail``: what
    was signed is not what came, or the key or algorithm proves nothing (RFC 8301). ``neutral``: the signature cannot be
    read. ``permerror``: no usable key, expired, From is not signed. The best of all signatures counts."""

    kind: ClassVar[str] = "dkim"
    stage: ClassVar[Stage] = Stage.MESSAGE
    about: ClassVar[Literal["spam", "origin", "other"]] = "origin"
    outcomes: ClassVar[frozenset[str]] = frozenset(
        {"pass", "fail", "neutral", "none", "policy", "permerror", "temperror"}
    )
    after: ClassVar[frozenset[str]] = frozenset()
    weights: ClassVar[Mapping[str, Weight]] = {}
    options: ClassVar[tuple[Option, ...]] = (
        Option("minimum_key", "count", 1024, "bits of the smallest RSA key that counts; a smaller one is policy"),
    )

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None:
        """Raises ValueError for a key size that no signature could or may have."""
        self._minimum = int(options.get("minimum_key", SMALLEST))
        if not SMALLEST <= self._minimum <= LARGEST:
            raise ValueError(f"minimum_key = {self._minimum}: write {SMALLEST} to {LARGEST}")
        self._tools = tools
        if tools is not None:
            load()

    async def examine(self, case: Case) -> Finding:
        assert self._tools is not None and case.message is not None
        signing = [field for field in case.message.fields if field.name == "dkim-signature"]
        if not signing:
            return Finding("none", "no signature", "dkim=none")
        now = self._tools.clock.now()
        read = [_read(field, now) for field in signing[:SIGNATURES]]
        signatures = [each for each in read if isinstance(each, Signature)]
        keys = await keys_at(self._tools, [each.key_name for each in signatures])
        usable = [each for each in signatures if isinstance(keys[each.key_name], Key)]
        hashes = await hashes_of(self._tools, case.message, usable)
        fields = fields_named(case.message, {name for each in usable for name in each.names})
        header = Header(case.message.body.head, fields)
        verdicts = []
        for each in read:
            if isinstance(each, Signature):
                key = keys[each.key_name]
                if isinstance(key, Key):
                    each = _judged(each, key, hashes, header, case.message, self._minimum)
                else:
                    each = Verdict(*key, each.domain, each)
            verdicts.append(each)
        return _finding(verdicts, len(signing) - len(read), case.envelope.sender)


def _read(field: Field, now: float) -> Signature | Verdict:
    try:
        return signature_of(field, now)
    except BadSignature as bad:
        return Verdict(bad.outcome, bad.reason, bad.domain)


def _judged(
    signature: Signature,
    key: Key,
    hashes: Mapping[BodyForm, BodyHash],
    header: Header,
    message: Message,
    minimum: int,
) -> Verdict:
    body = hashes[BodyForm(signature.body_form, signature.length)]
    outcome, reason = proved(signature, key, body, header)
    if outcome == "pass":
        reason = f"a key of {key.bits} bits" if 0 < key.bits < minimum else uncovered(signature, body, header, message)
        outcome = "policy" if reason else "pass"
    if key.testing:
        # Never worse than no signature at all (RFC 6376 3.6.1).
        outcome = "neutral" if outcome == "fail" else outcome
        reason = f"{reason}, the key is for testing" if reason else "the key is for testing"
    return Verdict(outcome, reason, signature.domain, signature, key.testing)


def _finding(verdicts: Sequence[Verdict], left: int, sender: Address | None) -> Finding:
    ranked = sorted(verdicts, key=lambda verdict: RANKS.index(verdict.outcome))
    told = [_told(verdict) for verdict in ranked]
    if left:
        told.append(f"{left} more not looked at")
    passed = list(dict.fromkeys(each.domain for each in ranked if each.outcome == "pass" and not each.testing))
    facts = [("dkim", domain) for domain in passed]
    if sender is not None and any(aligned(domain, sender.domain) for domain in passed):
        facts.append(("dkim_sender", sender.domain))
    facts += dict.fromkeys(("dkim_temperror", each.domain) for each in ranked if each.outcome == "temperror")
    return Finding(ranked[0].outcome, "; ".join(told), joined(map(_clause, ranked)), facts=tuple(facts))


def _told(verdict: Verdict) -> str:
    told = f"{verdict.outcome} for {verdict.domain}" if verdict.domain else verdict.outcome
    return f"{told} ({verdict.reason})" if verdict.reason else told


def _clause(verdict: Verdict) -> str:
    signature = verdict.signature
    properties = [("header.d", verdict.domain)] if verdict.domain else []
    if signature is not None:
        properties += [("header.s", signature.selector), ("header.a", signature.algorithm)]
    return clause("dkim", verdict.outcome, properties, verdict.reason)
