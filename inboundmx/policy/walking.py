"""Who sent a message to the first of the gateways that stand before us: their own Received fields tell.

Knows which of these fields are to be believed, and how servers write them (RFC 5321 4.4, and the forms of qmail, Exim,
Sendmail, Exchange and others). Does not know what follows from the address that is found: it is for checks and for
blacklists, and grants nothing.

The topmost field was written by our peer and names who spoke to it. While that is one of our gateways again, the next
field is its. Whatever stands below the first that is none of ours, anybody may have written. What can be read in two
ways is not read at all: a name that a client gave itself must not pass for its address.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from inboundmx.model.ip import ip_of
from inboundmx.model.message import Message

# More fields than this of gateways of ours nobody has; each may be as long as this.
MOST_STEPS = 30
FIELD_LIMIT = 2048

# One token of a field: a comment's bounds, or a word.
_TOKEN = re.compile(r"[()]|[^\s()]+")
_BRACKETED = re.compile(r"\[([^\[\]]*)\]")
# Words of a comment that hold what the client said of itself.
_SAID = re.compile(r"(?i)\b(?:helo|ehlo|ident|envelope-from)=\S*")
_HELLO_COMMENT = re.compile(r"(?i)(?:helo|ehlo)[ =]")
_EXIM_HELLO = re.compile(r"(?i)\bhelo=(\S+)")
_PORT = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3}):\d{1,5}")
# Comments about TLS and authentication, which may quote a certificate of the client's.
_SESSION = re.compile(r"(?i)(?:using|client|no client|auth|tls)\b")
_EXIM = "(Exim "
_HANDED_ON = "invoked from network"


class Step(NamedTuple):
    """One Received field that was looked at. ``by``: the address of the gateway that wrote it; ``address`` and
    ``hello``: who spoke to it, empty when it does not say; ``why``: what follows, for people."""

    by: str
    address: str
    hello: str
    believed: bool
    why: str


class Walk(NamedTuple):
    """``address`` and ``hello`` are those of the first client that is no gateway of ours; empty when the fields do not
    lead to one."""

    address: str
    hello: str
    steps: tuple[Step, ...]

    def told(self) -> Mapping[str, Any]:
        """For logs."""
        return {"origin": self.address, "walk": [list(step) for step in self.steps]}


def walk(message: Message, peer: str, bypasses: Callable[[str], bool]) -> Walk:
    """``peer`` is the gateway that brought the message, ``bypasses`` says whether an address is a gateway of ours."""
    received = (field.value for field in message.fields if field.name == "received")
    return walked(received, peer, bypasses)


def walked(fields: Iterable[bytes], peer: str, bypasses: Callable[[str], bool]) -> Walk:
    """As ``walk``, of the raw values of Received fields, the topmost first."""
    steps: list[Step] = []
    by = peer
    for value in fields:
        if len(steps) == MOST_STEPS:
            steps.append(Step(by, "", "", False, "too many fields of gateways"))
            return Walk("", "", tuple(steps))
        text = value.replace(b"\r\n", b"").decode("ascii", "replace") if len(value) <= FIELD_LIMIT else ""
        if _HANDED_ON in text and not text.lstrip().lower().startswith("from"):
            steps.append(Step(by, "", "", True, "handed on within the gateway"))
            continue
        read = _read(text)
        if read is None:
            steps.append(Step(by, "", "", False, "does not say, in one way alone, which address spoke to the gateway"))
            return Walk("", "", tuple(steps))
        address, hello = read
        found = ip_of(address)
        if found is not None and found.is_loopback:
            steps.append(Step(by, address, hello, True, "the gateway itself"))
        elif bypasses(address):
            steps.append(Step(by, address, hello, True, "a gateway as well"))
            by = address
        else:
            steps.append(Step(by, address, hello, True, "no gateway: the client that is judged"))
            return Walk(address, hello, tuple(steps))
    steps.append(Step(by, "", "", False, "there is no further Received field"))
    return Walk("", "", tuple(steps))


def _read(text: str) -> tuple[str, str] | None:
    """The address and the HELO of the client that a field names."""
    parts = _parts(text)
    if parts is None:
        return None
    hello, comments = parts
    name, found = hello, []
    # Whether the HELO, if there was one, stands elsewhere than in the place of the name.
    apart = _EXIM in text
    for comment in comments:
        if _HELLO_COMMENT.match(comment):
            hello, apart = comment[5:].strip(), True
        elif not _SESSION.match(comment):
            said = _EXIM_HELLO.search(comment)
            if said:
                hello, apart = said[1], True
            address = _address_in(_SAID.sub("", comment).strip())
            if address:
                found.append(address)
    if not found and apart:
        # Some write the address in place of a name that they do not know. Where they would write the HELO there, it is
        # only what the client said.
        found.append(_address(name.strip("[]")))
        hello = "" if hello == name else hello
    if len(set(found)) != 1 or not found[0]:
        return None
    return found[0], hello if hello.isprintable() else ""


def _parts(text: str) -> tuple[str, list[str]] | None:
    """The word after ``from``, and the comments between it and the only ``by``."""
    words: list[str] = []
    comments: list[str] = []
    open_at, depth, ended = 0, 0, False
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if sign == "(":
            if not depth:
                open_at = token.end()
            depth += 1
        elif sign == ")":
            depth -= 1
            if depth < 0:
                return None
            if not depth and not ended:
                comments.append(text[open_at : token.start()].strip())
        elif not depth:
            if sign.lower() == "by":
                if ended:
                    return None
                ended = True
            elif not ended:
                words.append(sign)
            elif sign.endswith(";"):
                break
    if depth or not ended or len(words) != 2 or words[0].lower() != "from":
        return None
    return words[1], comments


def _address_in(comment: str) -> str:
    """The address that a comment of a server holds, empty when there is none. What stands before it may be the
    client's own words (an ident, a name), after it nothing of its is."""
    bracketed = _BRACKETED.findall(comment)
    if bracketed:
        return _address(bracketed[0] if comment.startswith("[") else bracketed[-1])
    return _address(comment.rpartition("@")[2])


def _address(text: str) -> str:
    """An address in its usual spelling, without what servers add to it; empty for anything else."""
    text = text.strip()
    if text[:5].lower() == "ipv6:":
        text = text[5:]
    text = text.partition("%")[0]
    with_port = _PORT.fullmatch(text)
    if with_port:
        text = with_port[1]
    found = ip_of(text)
    return "" if found is None else str(found)
