"""Whether a signature is right, and covers what a reader sees: its key from DNS, and the hash of the body.

Knows what is asked for, and how long it is waited for. Does not know which signatures there are (``dkim``, ``arc``),
nor what one that is right is trusted for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from inboundmx.checks.api import Tools
from inboundmx.checks.dkim_content import BodyForm, BodyHash, Header, body_hashes, signed_header, unsigned_field
from inboundmx.checks.dkim_key import SMALLEST, BadKey, Key, key_of
from inboundmx.checks.dkim_signature import Signature
from inboundmx.checks.questions import Questions
from inboundmx.model.message import Body, Message
from inboundmx.ports import Contents

# A key that has not come by then is DNS trouble of its signature alone; the others are judged.
KEY_SECONDS = 4.0


async def keys_at(tools: Tools, names: Iterable[str], seconds: float = KEY_SECONDS) -> dict[str, Key | tuple[str, str]]:
    """By name: the key, or the outcome and the reason why there is none."""
    questions = Questions(tools.resolver)
    names = dict.fromkeys(names)
    try:
        await questions.answers([(name, "TXT") for name in names], tools.clock, seconds)
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


async def hashes_of(tools: Tools, message: Message, signatures: Sequence[Signature]) -> Mapping[BodyForm, BodyHash]:
    """What the signatures say of the body; a large one is read and hashed in a thread."""
    body = message.body
    forms = [BodyForm(each.body_form, each.length) for each in signatures]
    start = message.header_end + 2
    if not forms:
        return {}
    if body.path is None:
        return body_hashes(body.head, start, forms)
    work = tools.offload.run(_hashes_of_large, tools.contents, body, start, forms)
    hashes: Mapping[BodyForm, BodyHash] = await work
    return hashes


def _hashes_of_large(
    contents: Contents, body: Body, start: int, forms: Sequence[BodyForm]
) -> Mapping[BodyForm, BodyHash]:
    return body_hashes(contents.whole(body), start, forms)


def proved(signature: Signature, key: Key, body: BodyHash, header: Header) -> tuple[str, str]:
    """The outcome, ``pass`` when the signature is right, and the reason."""
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


def uncovered(signature: Signature, body: BodyHash, header: Header, message: Message) -> str:
    """What a reader may be shown although a signature that is right does not cover it; empty: nothing."""
    if signature.length is not None and signature.length < body.size:
        return "the end of the body is not signed"
    # What stands behind a line that is no field, a From even, nobody has signed.
    if not message.whole_header:
        return "a line of the header section is no field"
    second = unsigned_field(signature, header.fields)
    return f"a second {second} is not signed" if second else ""
