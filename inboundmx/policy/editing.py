"""The sender's header section, written anew: forgeries taken out, tags put before the Subject.

Knows which fields may only come from us, and how a Subject is tagged. Does not know why, nor what else is done with the
message. A field it has no business with stays byte for byte.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence

LINE_WISHED = 78
TAG_LIMIT = 100
AUTHSERV_LIMIT = 8 * 1024

FIRST_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")
# A line feed before the name makes this search a fast one; the first field is looked at alone.
_SUSPECT = re.compile(rb"\n(?i:authentication-results|received-spf|x-spam-(?:level|score|checks))[ \t]*:")
_SUSPECTS = frozenset((b"authentication-results", b"received-spf", b"x-spam-level", b"x-spam-score", b"x-spam-checks"))
_EDITABLE = re.compile(
    rb"^(authentication-results|received-spf|x-spam-(?:level|score|checks)|subject)[ \t]*:"
    rb"([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)(?:\r\n|\Z)",
    re.IGNORECASE | re.MULTILINE,
)
_AUTHSERV_TOKEN = re.compile(r"[^\s()<>@,;:\\\"/\[\]?=]+")
# Whose word a Received-SPF is: the key receiver, and by custom the name that its comment begins with.
_RECEIVER = re.compile(r"receiver(?:\s|\([^()]*\))*=\s*([^\s;,()]+)|\(\s*([^\s:;()]+)\s*:", re.IGNORECASE)
_AUTHSERV_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


def suspicious(head: bytes, end: int) -> bool:
    """Whether in the header section, the first ``end`` octets of ``head``, there is a field that may be a forgery."""
    first = FIRST_FIELD.match(head, 0, end)
    return (first is not None and first[1].lower() in _SUSPECTS) or _SUSPECT.search(head, 0, end) is not None


def edited(section: bytes, names: frozenset[str], tags: Sequence[str]) -> bytes:
    """A header section without the X-Spam fields, Authentication-Results and Received-SPF that only we may write, and
    with ``tags`` before the value of every Subject; one is added where there is none. ``names`` are ours, lower case,
    undotted."""
    subjects = 0

    def edit(match: re.Match[bytes]) -> bytes:
        nonlocal subjects
        name = match[1].lower()
        if name == b"subject":
            subjects += 1
            return subject(tags, match[2], match[0]) if tags else match[0]
        if name == b"authentication-results" and not _forged(match[2], names):
            return match[0]
        if name == b"received-spf" and not _received_by(match[2], names):
            return match[0]
        return b""

    written = _EDITABLE.sub(edit, section)
    return subject(tags) + written if tags and not subjects else written


def subject(tags: Sequence[str], value: bytes = b"", whole: bytes = b"") -> bytes:
    """A Subject with the tags before its value, which is kept as it is, folds and encoded words included. ``whole`` is
    the field as it was, given back when it begins with the tags already."""
    text = " ".join(tags)
    shown = value.strip()
    tag = _tag(text)
    # Between two encoded words a space is not shown (RFC 2047 6.2), so it goes into the first.
    spaced = _tag(f"{text} ")
    if whole and shown.startswith((tag, spaced)):
        return whole
    if shown.startswith(b"=?") and not text.isascii():
        tag = spaced
    if not shown:
        return b"Subject: %b\r\n" % tag
    kept = value.rstrip()
    if not kept.startswith((b" ", b"\t", b"\r\n")):
        kept = b" " + kept
    line = kept.partition(b"\r\n")[0]
    fold = b"\r\n" if line.strip() and len("Subject: ") + len(tag) + len(line) > LINE_WISHED else b""
    return b"Subject: %b%b%b\r\n" % (tag, fold, kept)


def _tag(text: str) -> bytes:
    """ASCII as it is; anything else as encoded words, each of at most 75 letters."""
    clean = "".join(sign if sign.isprintable() else "?" for sign in text[:TAG_LIMIT])
    if clean.isascii():
        return clean.encode("ascii")
    pieces = (clean[at : at + 10].encode("utf-8", "replace") for at in range(0, len(clean), 10))
    return b" ".join(b"=?utf-8?B?%b?=" % b64encode(piece) for piece in pieces)


def _forged(value: bytes, names: frozenset[str]) -> bool:
    """Whether an Authentication-Results that came from outside speaks in one of our names (RFC 8601 5)."""
    text = value[:AUTHSERV_LIMIT].replace(b"\r\n", b"").decode("utf-8", "replace")
    at = _past_comments(text)
    quoted = _AUTHSERV_QUOTED.match(text, at)
    if quoted is not None:
        return re.sub(r"\\(.)", r"\1", quoted[1]).strip().lower().rstrip(".") in names
    token = _AUTHSERV_TOKEN.match(text, at)
    if token is not None:
        return token[0].lower().rstrip(".") in names
    # Nobody knows what others make of it: it is theirs as long as it does not speak of us.
    lowered = text.replace("\\", "").lower()
    return any(name in lowered for name in names)


def _received_by(value: bytes, names: frozenset[str]) -> bool:
    """Whether a Received-SPF (RFC 7208 9.1), which we never write, says that one of our names found it."""
    text = re.sub(r'[\\"]', "", value.decode("utf-8", "replace"))
    return any((key or comment).lower().rstrip(".") in names for key, comment in _RECEIVER.findall(text))


def _past_comments(text: str) -> int:
    """Where white space and comments at the start end (RFC 5322 3.2.2); the end of the text when a comment does not."""
    depth = 0
    at = 0
    while at < len(text):
        sign = text[at]
        if depth and sign == "\\":
            at += 1
        elif sign == "(":
            depth += 1
        elif depth and sign == ")":
            depth -= 1
        elif not depth and not sign.isspace():
            return at
        at += 1
    return len(text)
