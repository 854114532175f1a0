"""Whether what a domain signed is what came (DKIM, RFC 6376, 8301, 8463).

Knows which signatures are looked at and what their verdicts come to. The parts know the field (``dkim_signature``), the
key (``dkim_key``) and the content (``dkim_content``). Does not know what a verdict is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.checks.authentication import clause, joined
from inboundmx.checks.dkim_content import (
    BodyForm,
    BodyHash,
    Header,
    body_hashes,
    fields_named,
    signed_header,
    unsigned_field,
)
from inboundmx.checks.dkim_key import LARGEST, SMALLEST, BadKey, Key, key_of
from inboundmx.checks.dkim_signature import BadSignature, Signature, signature_of
from inboundmx.checks.organization import aligned, load
from inboundmx.checks.questions import Questions
from inboundmx.model.address import Address
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.message import Body, Field, Message
from inboundmx.model.verdict import Weight
from inboundmx.ports import Contents

# Signatures that are looked at, from the top, and so keys that are asked for; RFC 6376 8.4 leaves the number open.
SIGNATURES = 10
# A key that has not come by then is DNS trouble of its signature alone; the others are judged.
KEY_SECONDS = 4.0
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
        keys = await self._keys(signatures)
        usable = [each for each in signatures if isinstance(keys[each.key_name], Key)]
        hashes = await self._hashes(case.message, usable)
        fields = fields_named(case.message, {name for each in usable for name in each.names})
        header = Header(case.message.body.head, fields)
        # What stands behind a line that is no field, a From even, nobody has signed.
        whole = case.message.whole_header
        verdicts = []
        for each in read:
            if isinstance(each, Signature):
                key = keys[each.key_name]
                each = _judged(each, key, hashes, header, whole, self._minimum) if isinstance(key, Key) else Verdict(
                    *key, each.domain, each
                )  # fmt: skip
            verdicts.append(each)
        return _finding(verdicts, len(signing) - len(read), case.envelope.sender)

    async def _keys(self, signatures: Sequence[Signature]) -> dict[str, Key | tuple[str, str]]:
        """By name: the key, or the outcome and the reason why there is none."""
        assert self._tools is not None
        questions = Questions(self._tools.resolver)
        names = dict.fromkeys(signature.key_name for signature in signatures)
        try:
            await questions.answers([(name, "TXT") for name in names], self._tools.clock, KEY_SECONDS)
        finally:
            questions.close()
        keys: dict[str, Key | tuple[str, str]] = {}
        for name in names:
            answer = questions.known[name, "TXT"]
            if isinstance(answer, BaseException):
                keys[name] = ("temperror", "DNS gave no answer for the key")
                continue
            try:
                keys[name] = key_of(answer.rows)
            except BadKey as bad:
                keys[name] = ("permerror", str(bad))
        return keys

    async def _hashes(self, message: Message, signatures: Sequence[Signature]) -> Mapping[BodyForm, BodyHash]:
        """What the signatures say of the body; a large one is read and hashed in a thread."""
        assert self._tools is not None
        body = message.body
        forms = [BodyForm(each.body_form, each.length) for each in signatures]
        start = message.header_end + 2
        if not forms:
            return {}
        if body.path is None:
            return body_hashes(body.head, start, forms)
        work = self._tools.offload.run(_hashes_of_large, self._tools.contents, body, start, forms)
        hashes: Mapping[BodyForm, BodyHash] = await work
        return hashes


def _hashes_of_large(
    contents: Contents, body: Body, start: int, forms: Sequence[BodyForm]
) -> Mapping[BodyForm, BodyHash]:
    return body_hashes(contents.whole(body), start, forms)


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
    whole: bool,
    minimum: int,
) -> Verdict:
    body = hashes[BodyForm(signature.body_form, signature.length)]
    outcome, reason = _proved(signature, key, body, header)
    if outcome == "pass":
        outcome, reason = _trusted(signature, key, body, header.fields, whole, minimum)
    if key.testing:
        # Never worse than no signature at all (RFC 6376 3.6.1).
        outcome = "neutral" if outcome == "fail" else outcome
        reason = f"{reason}, the key is for testing" if reason else "the key is for testing"
    return Verdict(outcome, reason, signature.domain, signature, key.testing)


def _proved(signature: Signature, key: Key, body: BodyHash, header: Header) -> tuple[str, str]:
    """Whether the signature is right."""
    if signature.algorithm != key.algorithm:
        return "permerror", "the key is of another kind than the signature"
    if key.strict and signature.identity_domain != signature.domain:
        return "permerror", "the key is not for subdomains"
    if 0 < key.bits < SMALLEST:
        return "fail", f"a key of {key.bits} bits proves nothing"
    if signature.length is not None and signature.length > body.size:
        return "permerror", "l= is more than the body"
    if body.digest != signature.body_hash:
        return "fail", "the body has been altered"
    if not key.verifies(signature.signature, signed_header(signature, header)):
        return "fail", "the header has been altered"
    return "pass", ""


def _trusted(
    signature: Signature,
    key: Key,
    body: BodyHash,
    fields: Mapping[str, Sequence[Field]],
    whole: bool,
    minimum: int,
) -> tuple[str, str]:
    """Whether a signature that is right covers what a reader sees. ``whole``: all of the header section is fields."""
    if 0 < key.bits < minimum:
        return "policy", f"a key of {key.bits} bits"
    if signature.length is not None and signature.length < body.size:
        return "policy", "the end of the body is not signed"
    if not whole:
        return "policy", "a line of the header section is no field"
    second = unsigned_field(signature, fields)
    if second:
        return "policy", f"a second {second} is not signed"
    return "pass", ""


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
