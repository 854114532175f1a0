"""Whom a message says it is from: the domains of its authors (RFC 5322 3.6.2, RFC 6854, RFC 9989 4.3).

Knows how From is written, and every other way of writing it by which a stranger hopes that two readers see two authors.
Does not know who authenticated as what. In time that grows with the length of the field alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import idna

from inboundmx.model.address import Address
from inboundmx.model.message import Message
from inboundmx.policy.encoded_words import decoded

# Octets of a From that is read as mailboxes, and of one that is only searched for domains; fields, signs @ in a text,
# and domains, that are looked at.
FIELD_LIMIT = 8 * 1024
SEARCHED = 64 * 1024
FIELDS_LIMIT = 10
SIGNS_LIMIT = 50
DOMAINS_LIMIT = 5
# Characters of a domain that is converted to A-labels.
DOMAIN_LIMIT = 255

# A quoted string, a local part, a domain; what a name may be made of beside quoted strings. No control characters.
_QUOTED = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[^\x00-\x08\x0a-\x1f\x7f])*+"'
_LOCAL = rf'(?:[^<>@\s"(),:;\\\x00-\x20\x7f]++|{_QUOTED})'
_DOMAIN = r'[^<>@\s"(),:;\\\[\]\x00-\x20\x7f]++'
_NAME = rf'(?:{_QUOTED}|[^"<>(),:;\\\x00-\x08\x0a-\x1f\x7f]++)*+'
_MAILBOX = re.compile(rf"[ \t]*+(?:({_NAME})<({_LOCAL})@({_DOMAIN})>|({_LOCAL})@({_DOMAIN}))[ \t]*+")
_QUOTES = re.compile(_QUOTED)
# Pieces of a text with comments: a quoted string, a quoted pair, a parenthesis, anything else.
_PIECES = re.compile(rf'{_QUOTED}|\\.|[()]|[^"\\()]++|.', re.DOTALL)
# What any reader may take for the domain of an address.
_AFTER_AT = re.compile(r'@[\s\x00-\x20]*+([^<>@\s"(),:;\\\[\]\x00-\x20\x7f]++)')
_PLAIN = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*+")
# A From that stands where we see no field any more, or in front of all fields.
_HIDDEN = re.compile(rb"^[\x00-\x09\x0b\x0c\x0e-\x20]*+from[\x00-\x20]*+:([^\r]*+(?:\r\n[ \t][^\r]*+)*+)", re.I | re.M)


class Authors(NamedTuple):
    """``domains``: A-labels, each once, in their order, of everybody a reader may take for an author. ``flaw``: why
    nobody can be sure of them, whatever is proven about the domains; empty: they are the authors. ``mailbox``: the only
    author, where he is written as people write him: one mailbox, without comments."""

    domains: tuple[str, ...]
    flaw: str = ""
    mailbox: Address | None = None


def authors(message: Message) -> Authors:
    """Never raises, whatever stands there."""
    texts = [field.value for field in message.fields if field.name == "from"]
    if not message.whole_header:
        end = message.fields[-1].end if message.fields else 0
        rest = message.body.head[end : message.header_end]
        texts += [found[1] for found in _HIDDEN.finditer(rest)]
        return Authors(_anywhere(map(_unfolded, texts[:FIELDS_LIMIT])), "a line of the header section is no field")
    if len(texts) == 1 and len(texts[0]) <= FIELD_LIMIT:
        return _authors(_unfolded(texts[0]))
    flaw = "no From" if not texts else "more than one From" if len(texts) > 1 else "From is too long"
    return Authors(_anywhere(map(_unfolded, texts[:FIELDS_LIMIT])), flaw)


def _unfolded(value: bytes) -> str:
    return value[:SEARCHED].replace(b"\r\n", b"").decode("utf-8", "replace")


def _authors(text: str) -> Authors:
    """Of the only From."""
    only = _MAILBOX.fullmatch(text)
    mailboxes = [only] if only is not None else list(_mailboxes(_uncommented(text)))
    names = [_a_labels(found[3] or found[5]) for found in mailboxes]
    if not names or not all(names):
        return Authors(_anywhere([text]), "From is no list of mailboxes" if text.strip() else "From is empty")
    domains = dict.fromkeys(names)
    for found in mailboxes:
        if found[1] and "@" in found[1]:
            # An address in front of the address: it is one for some readers, unless it is quoted.
            domains |= dict.fromkeys(_domains(_QUOTES.sub("", found[1])))
    shown = tuple(domains)[:DOMAINS_LIMIT]
    flaw = "too many authors" if len(domains) > DOMAINS_LIMIT else ""
    if "=?" in text and not domains.keys() >= (set(_domains(decoded(text))) - set(_domains(text))):
        # A reader that decodes first, and looks for addresses then, sees another one.
        flaw = flaw or "an encoded word holds another address"
    if only is None or flaw or len(domains) > 1:
        return Authors(shown, flaw)
    return Authors(shown, "", Address(only[2] or only[4], names[0]))


def _mailboxes(text: str) -> Iterator[re.Match[str]]:
    """The mailboxes of a list; none at all when anything else is in it."""
    found: list[re.Match[str]] = []
    at = 0
    while (match := _MAILBOX.match(text, at)) is not None:
        found.append(match)
        at = match.end()
        if at == len(text):
            yield from found
            return
        if text[at] != ",":
            return
        at += 1


def _uncommented(text: str) -> str:
    """The text without its comments (RFC 5322 3.2.2); empty when they are not balanced."""
    kept: list[str] = []
    depth = 0
    for piece in _PIECES.findall(text):
        if piece == "(":
            depth += 1
        elif piece == ")":
            depth -= 1
            if depth < 0:
                return ""
        elif not depth:
            kept.append(piece)
        elif piece[0] == '"' and len(piece) > 1 and ("(" in piece or ")" in piece):
            # Quotes mean nothing in a comment, and readers differ in that.
            return ""
    return "" if depth else "".join(kept)


def _anywhere(texts: Iterable[str]) -> tuple[str, ...]:
    """The domains of whatever looks like an address, before and after encoded words are decoded."""
    found: dict[str, None] = {}
    for text in texts:
        for form in dict.fromkeys((text, decoded(text))):
            found |= dict.fromkeys(_domains(form))
            if len(found) >= DOMAINS_LIMIT:
                break
    return tuple(found)[:DOMAINS_LIMIT]


def _domains(text: str) -> list[str]:
    """Domains of more than one label behind the first signs @, each once."""
    names = (_a_labels(match[1].strip(".")) for match in islice(_AFTER_AT.finditer(text), SIGNS_LIMIT))
    return list(dict.fromkeys(name for name in names if "." in name))


def _a_labels(domain: str) -> str:
    """In small letters, as DNS knows it; empty when it cannot be one."""
    if domain.isascii():
        domain = domain.lower()
        return domain if _PLAIN.fullmatch(domain) else ""
    if len(domain) > DOMAIN_LIMIT:
        return ""
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        return ""
