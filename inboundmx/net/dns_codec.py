"""DNS messages as octets (RFC 1035, 2308, 6891): questions written, replies read, for the few types mail needs.

Knows names, records, chains of aliases and negative answers. Does not know who is asked, nor how often; trusts nothing
in a reply: every read is inside the octets, pointers only lead backwards, records are bounded.
"""

from __future__ import annotations

import re
import socket
import struct
from typing import Any, NamedTuple

from inboundmx.ports import Answer

A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, OPT = 1, 2, 5, 6, 12, 15, 16, 28, 41
TYPES = {"A": A, "NS": NS, "CNAME": CNAME, "SOA": SOA, "PTR": PTR, "MX": MX, "TXT": TXT, "AAAA": AAAA}
HEADER_OCTETS = 12
# What we say we can take by UDP: fits every path without fragments (RFC 9715).
UDP_OCTETS = 1232
# Records of one reply that are looked at, aliases followed in it; more is no honest answer.
RECORDS_LIMIT = 500
CHAIN_LIMIT = 16
FORMAT_ERROR, NAME_ERROR, BAD_VERSION = 1, 3, 16
_RCODES = {FORMAT_ERROR: "FORMERR", 2: "SERVFAIL", 4: "NOTIMP", 5: "REFUSED", BAD_VERSION: "BADVERS"}

_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHIH")
_SOA_NUMBERS = struct.Struct("!5I")
# Two names of the root.
SOA_LEAST = 2 + _SOA_NUMBERS.size
_OPT_RECORD = b"\0" + _RECORD.pack(OPT, UDP_OCTETS, 0, 0)
_PLAIN = re.compile(rb"[A-Za-z0-9_-]+")
_ASKABLE = re.compile(r"[ -\[\]-~]+")


class Malformed(Exception):
    """The octets are no DNS message that we can read."""


class Failure(Exception):
    """A proper message that answers nothing. ``rcode`` as in RFC 1035 and 6891."""

    def __init__(self, rcode: int, reason: str = "") -> None:
        super().__init__(reason or _RCODES.get(rcode, f"rcode {rcode}"))
        self.rcode = rcode


class Reply(NamedTuple):
    """``ttl``: seconds the answer may be kept; None when nothing says so. ``alias``: the chain leads to this name, of
    which the reply does not speak; then ``answer`` is None."""

    answer: Answer | None
    ttl: int | None
    alias: str = ""


def question(name: str, type: str) -> bytes | None:
    """The question section. ``name`` is text in lower case without the last dot, the root being empty; None for one
    that cannot be asked for."""
    if not name:
        return b"\0" + struct.pack("!HH", TYPES[type], 1)
    if len(name) > 253 or not _ASKABLE.fullmatch(name):
        return None
    written = bytearray()
    for label in name.encode("ascii").split(b"."):
        if not 0 < len(label) < 64:
            return None
        written.append(len(label))
        written += label
    return bytes(written) + b"\0" + struct.pack("!HH", TYPES[type], 1)


def query(id: int, question: bytes, extended: bool = True) -> bytes:
    """A whole message that asks for recursion; ``extended``: with EDNS."""
    return _HEADER.pack(id, 0x0100, 1, 0, 0, extended) + question + (_OPT_RECORD if extended else b"")


def answers(packet: bytes, id: int, question: bytes) -> bool:
    """Whether these octets claim to answer that query: id, and question octet by octet. A failure may leave the
    question out."""
    if len(packet) < HEADER_OCTETS:
        return False
    said, flags, questions = struct.unpack_from("!3H", packet)
    if said != id or flags & 0xF800 != 0x8000:
        return False
    if questions == 0:
        return flags & 15 not in (0, NAME_ERROR)
    return questions == 1 and packet.startswith(question, HEADER_OCTETS)


def truncated(packet: bytes) -> bool:
    return bool(packet[2] & 2)


def read(packet: bytes, question: bytes) -> Reply:
    """What a reply for which ``answers`` holds says. Raises Failure and Malformed."""
    _, flags, questions, answers, authorities, additions = _HEADER.unpack_from(packet)
    rcode = flags & 15
    if questions == 0 or rcode not in (0, NAME_ERROR):
        raise Failure(rcode)
    if answers + authorities + additions > RECORDS_LIMIT:
        raise Malformed("too many records")
    try:
        return _read(packet, HEADER_OCTETS + len(question), rcode, (answers, authorities, additions))
    except (struct.error, IndexError):
        raise Malformed("cut off") from None


def _read(packet: bytes, at: int, rcode: int, counts: tuple[int, int, int]) -> Reply:
    asked = name = _name(packet, HEADER_OCTETS)[0]
    wanted = struct.unpack_from("!H", packet, at - 4)[0]
    rows: dict[str, list[Any]] = {}
    aliases: dict[str, str] = {}
    ttls: dict[str, int] = {}
    for _ in range(counts[0]):
        # Most records point to the name in the question; it is there already.
        if packet[at] == 0xC0 and packet[at + 1] == HEADER_OCTETS:
            owner, at = asked, at + 2
        else:
            owner, at = _name(packet, at)
        at, type, class_, ttl, length = _record(packet, at)
        if class_ == 1 and type == wanted:
            rows.setdefault(owner, []).append(_row(packet, at, length, type))
        elif class_ == 1 and type == CNAME:
            aliases.setdefault(owner, _row(packet, at, length, CNAME))
        else:
            at += length
            continue
        ttls[owner] = min(ttl, ttls.get(owner, ttl))
        at += length
    keep: int | None = None
    for _ in range(CHAIN_LIMIT):
        if name in ttls:
            keep = ttls[name] if keep is None else min(keep, ttls[name])
        if name in rows:
            return Reply(Answer(tuple(rows[name])), keep)
        if name not in aliases:
            break
        name = aliases[name]
    else:
        raise Malformed("an endless chain of aliases")
    negative = _negative(packet, at, counts)
    if rcode == NAME_ERROR:
        return Reply(Answer((), exists=False), _least(keep, negative))
    if negative is None and aliases:
        return Reply(None, keep, name)
    return Reply(Answer(()), _least(keep, negative))


def _negative(packet: bytes, at: int, counts: tuple[int, int, int]) -> int | None:
    """Seconds that the answer "nothing" holds, by the zone's SOA (RFC 2308 5). Raises Failure where the reply is none:
    a referral, or an extended error."""
    found: int | None = None
    referral = False
    for _ in range(counts[1]):
        at, type, class_, ttl, length = _record(packet, _after_name(packet, at))
        if class_ == 1 and type == SOA:
            # Two names, then five numbers, of which the last is the one.
            if length < SOA_LEAST:
                raise Malformed("an SOA record of a wrong length")
            found = min(ttl, struct.unpack_from("!I", packet, at + length - 4)[0])
        referral = referral or type == NS
        at += length
    for _ in range(counts[2]):
        at, type, _, ttl, length = _record(packet, _after_name(packet, at), raw=True)
        if type == OPT and ttl >> 24:
            raise Failure(ttl >> 24 << 4 | packet[3] & 15)
        at += length
    if referral and found is None and not counts[0]:
        raise Failure(0, "a referral: the server does not look up for us")
    return found


def _least(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)


def _record(packet: bytes, at: int, raw: bool = False) -> tuple[int, int, int, int, int]:
    """Of the record whose owner ends at ``at``: where its data begins, type, class, seconds to keep, and the length of
    the data, all of which is there. ``raw``: the field of the seconds as it stands."""
    type, class_, ttl, length = _RECORD.unpack_from(packet, at)
    at += _RECORD.size
    if at + length > len(packet):
        raise Malformed("cut off")
    # RFC 2181 8: with the highest bit set it counts as 0.
    return at, type, class_, ttl if raw or ttl < 0x80000000 else 0, length


def _row(packet: bytes, at: int, length: int, type: int) -> Any:
    end = at + length
    if type == A:
        if length != 4:
            raise Malformed("an A record of a wrong length")
        return socket.inet_ntoa(packet[at:end])
    if type == AAAA:
        if length != 16:
            raise Malformed("an AAAA record of a wrong length")
        return socket.inet_ntop(socket.AF_INET6, packet[at:end])
    if type == TXT:
        return _text(packet, at, end)
    if type == MX:
        name, after = _name(packet, at + 2)
        row: Any = (struct.unpack_from("!H", packet, at)[0], name)
    elif type == SOA:
        primary, after = _name(packet, at)
        mailbox, after = _name(packet, after)
        row = (primary, mailbox, *_SOA_NUMBERS.unpack_from(packet, after))
        after += _SOA_NUMBERS.size
    else:
        row, after = _name(packet, at)
    if after != end:
        raise Malformed("a record of a wrong length")
    return row


def _text(packet: bytes, at: int, end: int) -> bytes:
    """The joined strings of one TXT record."""
    parts = []
    while at < end:
        after = at + 1 + packet[at]
        if after > end:
            raise Malformed("a TXT record of a wrong length")
        parts.append(packet[at + 1 : after])
        at = after
    return b"".join(parts)


def _after_name(packet: bytes, at: int) -> int:
    """Where what follows a name begins that nobody wants to know."""
    while 0 < (length := packet[at]) < 0x40:
        at += length + 1
    if length and length < 0xC0:
        raise Malformed("a label of an unknown kind")
    return at + (2 if length else 1)


def _name(packet: bytes, at: int) -> tuple[str, int]:
    """The name at ``at`` as text in lower case, odd octets as ``\\ddd``, and where what follows it begins."""
    labels: list[str] = []
    after = 0
    room = 255
    first = at
    while True:
        length = packet[at]
        if length >= 0xC0:
            target = (length & 0x3F) << 8 | packet[at + 1]
            after = after or at + 2
            # Strictly before where this run of labels began: no loop can.
            if target >= first or target < HEADER_OCTETS:
                raise Malformed("a pointer that leads nowhere")
            at = first = target
            continue
        if length >= 0x40:
            raise Malformed("a label of an unknown kind")
        if length == 0:
            return ".".join(labels), after or at + 1
        label = packet[at + 1 : at + 1 + length]
        room -= length + 1
        if len(label) != length or room < 1:
            raise Malformed("a name that is too long")
        labels.append(label.decode("ascii").lower() if _PLAIN.fullmatch(label) else _escaped(label))
        at += length + 1


def _escaped(label: bytes) -> str:
    signs = (chr(octet) if 33 <= octet <= 126 and octet not in b".\\" else f"\\{octet:03d}" for octet in label)
    return "".join(signs).lower()
