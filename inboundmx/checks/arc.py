"""Whether those who passed the mail on have sealed what they saw (ARC, RFC 8617), and whom of them we believe.

Knows in which order a chain is proved, and how far trust reaches. The parts know the fields (``arc_chain``) and when a
signature is right (``dkim_proof``). Does not know what follows for DMARC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.checks.arc_chain import BadChain, Link, Seal, chain_of, message_signature_of, passed, sealed
from inboundmx.checks.authentication import clause
from inboundmx.checks.dkim_content import BodyForm, Header, fields_named
from inboundmx.checks.dkim_key import SMALLEST, Key
from inboundmx.checks.dkim_proof import KEY_SECONDS, hashes_of, keys_at, proved, uncovered
from inboundmx.checks.dkim_signature import Signature
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.message import Message
from inboundmx.model.verdict import Weight
from inboundmx.ports import Unavailable

Keys = Mapping[str, Key | tuple[str, str]]


class _NoAnswer(Exception):
    """DNS did not say which key it is."""


class Arc(Check):
    """``pass``: the chain of seals is right, and the last one covers the mail as it is. ``fail``: there is a chain that
    proves nothing; no worse than none. ``none``: there is none. What sealers in ``trusted`` saw pass is told to others
    (``dmarc``) where nobody else has touched the mail since."""

    kind: ClassVar[str] = "arc"
    stage: ClassVar[Stage] = Stage.MESSAGE
    about: ClassVar[Literal["spam", "origin", "rate", "other"]] = "origin"
    outcomes: ClassVar[frozenset[str]] = frozenset({"pass", "fail", "none"})
    after: ClassVar[frozenset[str]] = frozenset()
    weights: ClassVar[Mapping[str, Weight]] = {}
    options: ClassVar[tuple[Option, ...]] = (
        Option("trusted", "domain_names", (), "who is believed about mail it passed on: domains (d=) of sealers"),
    )

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None:
        self._trusted = frozenset(options.get("trusted", ()))
        self._tools = tools

    async def examine(self, case: Case) -> Finding:
        assert self._tools is not None and case.message is not None
        try:
            links = chain_of(case.message)
            if not links:
                return Finding("none", "no chain", "arc=none")
            await self._prove(case.message, links)
        except BadChain as bad:
            return Finding("fail", f"fail ({bad})", clause("arc", "fail", (), str(bad)))
        except _NoAnswer:
            if links[-1].seal.domain in self._trusted:
                # It may have been what DMARC waits for; of anybody else it would have changed nothing.
                raise Unavailable("DNS gave no answer for the key of a seal") from None
            return Finding("fail", "fail (no key)", clause("arc", "fail", (), "DNS gave no answer for a key"))
        last = links[-1].seal.domain
        trusted = "trusted" if last in self._trusted else "not trusted"
        told = f"pass, {len(links)} {'seal' if len(links) == 1 else 'seals'}, the last of {last}, {trusted}"
        return Finding("pass", told, clause("arc", "pass", (), f"i={len(links)} d={last}"), facts=self._facts(links))

    async def _prove(self, message: Message, links: Sequence[Link]) -> None:
        """Raises BadChain, or _NoAnswer. The last set first: what was altered since, or forged, costs one look-up."""
        assert self._tools is not None
        last = links[-1].seal
        signature = message_signature_of(links[-1], self._tools.clock.now())
        seconds = min(KEY_SECONDS, 0.8 * self._tools.timeout) / 2
        keys = await keys_at(self._tools, [signature.key_name, last.key_name], seconds)
        await self._prove_message(message, signature, _key(keys, signature))
        texts = list(sealed(links))
        _prove_seal(last, _key(keys, last), texts[-1])
        keys = await keys_at(self._tools, [link.seal.key_name for link in links[:-1]], seconds)
        for link, text in zip(links[-2::-1], texts[-2::-1], strict=True):
            _prove_seal(link.seal, _key(keys, link.seal), text)

    async def _prove_message(self, message: Message, signature: Signature, key: Key) -> None:
        assert self._tools is not None
        hashes = await hashes_of(self._tools, message, [signature])
        body = hashes[BodyForm(signature.body_form, signature.length)]
        header = Header(message.body.head, fields_named(message, set(signature.names)))
        _, reason = proved(signature, key, body, header)
        if reason := reason or uncovered(signature, body, header, message):
            raise BadChain(reason)

    def _facts(self, links: Sequence[Link]) -> tuple[tuple[str, str], ...]:
        """What the trusted sealers saw pass, from the last one back to the first who is not trusted."""
        found: dict[tuple[str, str], None] = {}
        for link in reversed(links):
            if link.seal.domain not in self._trusted:
                break
            found |= dict.fromkeys((f"arc_{method}", domain) for method, domain in passed(link.results))
        return (("arc_sealer", links[-1].seal.domain), *found) if found else ()


def _key(keys: Keys, signer: Signature | Seal) -> Key:
    found = keys[signer.key_name]
    if isinstance(found, Key):
        if found.testing:
            raise BadChain("the key is for testing")
        return found
    outcome, reason = found
    if outcome == "temperror":
        raise _NoAnswer
    raise BadChain(reason)


def _prove_seal(seal: Seal, key: Key, text: bytes) -> None:
    if seal.algorithm != key.algorithm:
        raise BadChain("the key is of another kind than the seal")
    if 0 < key.bits < SMALLEST:
        raise BadChain(f"a key of {key.bits} bits proves nothing")
    if not key.verifies(seal.signature, text):
        raise BadChain(f"the seal of {seal.domain} is wrong")
