"""What the header of a MIME entity says of its content (RFC 2045, 2183, 2231), in every way it may be understood.

Knows fields, parameters and comments, and what mail software reads differently in them. Does not know the content.
Whatever a stranger writes, the work grows with its length alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from inboundmx.policy.encoded_words import decoded, text_of

# Octets of one field that are read, its parameters that are, and letters of a file's name that are kept.
FIELD_LIMIT = 16 * 1024
PARAMETERS = 100
NAME_LIMIT = 1000
# The fields of each name that are read: more than one is a flaw already.
ALIKE = 4

# Content-… fields with their folds; a line that is neither a field nor goes on with one; a CR that ends no line.
_CONTENT = re.compile(rb"(?im)^content-(type|transfer-encoding|disposition)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)")
_NO_FIELD = re.compile(rb"(?m)^(?!\Z|\r?\n|>?From |[!-9;-~]++:|[ \t]++[^\r\n])")
_BARE_CR = re.compile(rb"\r(?!\n)")
# What stands between semicolons, a quoted string with whatever is in it; its end may be missing.
_PIECE = re.compile(rb'(?:[^;"]++|"(?:[^"\\]++|\\.)*+\\?"?)++', re.DOTALL)
_QUOTED = re.compile(rb'"((?:[^"\\]++|\\.)*+)\\?("?)(.*)', re.DOTALL)
_COMMENTED = re.compile(rb'"(?:[^"\\]++|\\.)*+\\?"?|\(+|\)+|\\.|\\|[^"()\\]++', re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_NOT_PLAIN = re.compile(rb"[\s\"<>@,;:\\\[\]?=]")
_NUMBERED = re.compile(rb"([^*]+)(?:\*([0-9]{1,4}))?(\*)?")
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_TYPE = re.compile(rb"[A-Za-z0-9!#$&^_.+'*~`|{}%-]{1,80}/[A-Za-z0-9!#$&^_.+'*~`|{}%-]{1,120}")
_ENCODINGS = {b"7bit": "", b"8bit": "", b"binary": "", b"base64": "base64", b"quoted-printable": "quoted-printable"}
_COMPOSITE = (b"multipar", b"message/")
_UUENCODE = frozenset({b"x-uuencode", b"uuencode", b"x-uue", b"uue"})


class Described(NamedTuple):
    """``encoding`` is ``base64``, ``quoted-printable``, ``uuencode`` or empty; ``boundaries`` and ``names`` are what
    one reader or another would take, the likeliest first; ``flaws`` are words of ``mime.FLAWS``."""

    type: str
    charset: str
    disposition: str
    encoding: str
    boundaries: tuple[bytes, ...]
    names: tuple[str, ...]
    flaws: tuple[str, ...]


class _Parameter(NamedTuple):
    """One name without its stars and numbers. ``values``: as written, in order; ``continued``: by number, and whether
    it is percent-encoded; ``extended``: charset and octets of ``name*=``."""

    values: list[bytes]
    continued: dict[int, tuple[bytes, bool]]
    extended: list[tuple[str, bytes]]


def described(header: bytes, default: str = "text/plain") -> Described:
    """``header``: the lines of a header section, without the blank one. Raises nothing."""
    flaws: dict[str, None] = {}
    fields: dict[bytes, list[bytes]] = {}
    for match in _CONTENT.finditer(header):
        alike = fields.setdefault(match[1].lower(), [])
        if len(alike) < ALIKE:
            alike.append(match[2].strip())
    if _NO_FIELD.search(header) or _BARE_CR.search(header):
        flaws["odd_header"] = None
    if not fields:
        return Described(default, "", "", "", (), (), tuple(flaws))
    types = [_read(value, flaws) for value in _different(fields.get(b"type", ()), "two_content_types", flaws)]
    placed = [_read(value, flaws) for value in _different(fields.get(b"disposition", ()), "two_dispositions", flaws)]
    encodings = _different(fields.get(b"transfer-encoding", ()), "two_transfer_encodings", flaws)
    kind, charset = default, ""
    if types:
        # Of several types the one that has parts: whoever reads it so sees more.
        said, parameters = next((each for each in types if each[0][:8].lower() in _COMPOSITE), types[0])
        if _TYPE.fullmatch(said):
            kind = said.decode("ascii").lower()
        else:
            flaws["odd_content_type"] = None
        charset = next((text.lower() for text in _texts(parameters.get(b"charset"))), "")
    boundaries = dict.fromkeys(
        octets.rstrip()[:FIELD_LIMIT] for _, each in types for octets in _octets(each.get(b"boundary"), flaws)
    )
    if len(boundaries) > 1 or any(len(octets) > 70 or not octets for octets in boundaries):
        flaws["odd_boundary"] = None
    return Described(
        kind,
        charset[:40],
        placed[0][0].decode("ascii", "replace").lower()[:40] if placed else "",
        _encoding(encodings[0], flaws) if encodings else "",
        tuple(boundary for boundary in boundaries if boundary),
        _names([each for _, each in placed], [each for _, each in types], flaws),
        tuple(flaws),
    )


def _different(values: Sequence[bytes], flaw: str, flaws: dict[str, None]) -> list[bytes]:
    """Fields of one name: more than one is a flaw when they say different things."""
    if len({b" ".join(value.lower().split()) for value in values}) > 1:
        flaws[flaw] = None
    return list(values)


def _encoding(value: bytes, flaws: dict[str, None]) -> str:
    said = value.lower()
    found = _ENCODINGS.get(said)
    if found is None:
        # Some read the first word, some take the whole for an encoding that they do not know.
        flaws["bad_transfer_encoding"] = None
        words = re.split(rb"[^a-z0-9-]+", _uncommented(said[:FIELD_LIMIT]).strip(b" \t\r\n\"'"), maxsplit=1)
        found = "uuencode" if words[0] in _UUENCODE else _ENCODINGS.get(words[0], "")
    return found


def _read(value: bytes, flaws: dict[str, None]) -> tuple[bytes, dict[bytes, _Parameter]]:
    """What stands before the first semicolon, and the parameters."""
    if len(value) > FIELD_LIMIT:
        flaws["too_large_header"] = None
        value = value[:FIELD_LIMIT]
    if b"(" in value:
        bare = _uncommented(value)
        if bare != value:
            flaws["comment"] = None
            value = bare
    first, _, rest = value.partition(b";")
    found: dict[bytes, _Parameter] = {}
    for number, match in enumerate(_PIECE.finditer(rest)):
        if number >= PARAMETERS:
            flaws["too_many_parameters"] = None
            break
        name, equals, raw = match[0].partition(b"=")
        numbered = _NUMBERED.fullmatch(name.strip().lower())
        if numbered is None or not equals:
            if match[0].strip():
                flaws["odd_parameter"] = None
            continue
        values = _values(raw.strip(), flaws)
        base, place, star = numbered.groups()
        parameter = found.setdefault(base, _Parameter([], {}, []))
        if place is not None:
            if int(place) in parameter.continued:
                flaws["bad_continuation"] = None
            parameter.continued.setdefault(int(place), (values[0], star is not None))
        elif star is not None:
            parameter.extended.append(_extended(values[0], flaws))
        else:
            if parameter.values and values != parameter.values:
                flaws["two_parameters"] = None
            parameter.values.extend(values)
    return first.strip(), found


def _values(raw: bytes, flaws: dict[str, None]) -> list[bytes]:
    """What a value may be taken for: more than one where it is neither a token nor a quoted string."""
    quoted = _QUOTED.fullmatch(raw)
    if quoted is None:
        if not _NOT_PLAIN.search(raw):
            return [raw]
        # A name with blanks that nobody quoted: all of it, or its first word.
        flaws["odd_parameter"] = None
        return list(dict.fromkeys([raw, *_NOT_PLAIN.split(raw, maxsplit=1)[:1]]))
    inner, closed, after = quoted.groups()
    value = _ESCAPED.sub(rb"\1", inner) if b"\\" in inner else inner
    values = [value]
    if not closed or after.strip() or b'\\"' in inner:
        flaws["odd_parameter"] = None
        values += [inner.partition(b'\\"')[0], value + after]
    return list(dict.fromkeys(values))


def _uncommented(value: bytes) -> bytes:
    depth, kept = 0, []
    for match in _COMMENTED.finditer(value):
        token = match[0]
        if token[0] == 0x28:
            depth += len(token)
        elif token[0] == 0x29:
            depth = max(0, depth - len(token))
        elif not depth:
            kept.append(token)
    return b"".join(kept)


def _extended(value: bytes, flaws: dict[str, None]) -> tuple[str, bytes]:
    charset, quote, rest = value.partition(b"'")
    _, second, octets = rest.partition(b"'")
    if not quote or not second:
        flaws["bad_continuation"] = None
        charset, octets = b"", value
    return charset.decode("ascii", "replace"), _unpercented(octets)


def _unpercented(octets: bytes) -> bytes:
    return _PERCENT.sub(lambda match: bytes.fromhex(match[1].decode()), octets)


def _joined(parameter: _Parameter, flaws: dict[str, None]) -> tuple[str, bytes] | None:
    """The pieces ``name*0``, ``name*1`` … in one."""
    if not parameter.continued:
        return None
    numbers = sorted(parameter.continued)
    if numbers != list(range(len(numbers))):
        flaws["bad_continuation"] = None
    charset, found = "", []
    for number in numbers:
        value, encoded = parameter.continued[number]
        if encoded and number == 0:
            charset, value = _extended(value, flaws)
        elif encoded:
            value = _unpercented(value)
        found.append(value)
    return charset, b"".join(found)


def _octets(parameter: _Parameter | None, flaws: dict[str, None]) -> list[bytes]:
    """Of a boundary: written in pieces or percent-encoded it means nothing to most readers."""
    if parameter is None:
        return []
    joined = _joined(parameter, flaws)
    others = [octets for _, octets in parameter.extended] + ([joined[1]] if joined is not None else [])
    if others:
        flaws["odd_boundary"] = None
    return [*parameter.values, *others]


def _texts(parameter: _Parameter | None) -> list[str]:
    if parameter is None:
        return []
    joined = _joined(parameter, {})
    written = [*parameter.extended, *([joined] if joined is not None else [])]
    return [text_of(octets, charset) for charset, octets in written] + [
        text_of(value, "utf-8") for value in parameter.values
    ]


def _names(
    placed: Iterable[dict[bytes, _Parameter]], types: Iterable[dict[bytes, _Parameter]], flaws: dict[str, None]
) -> tuple[str, ...]:
    found: dict[str, None] = {}
    given = [each.get(b"filename") for each in placed] + [each.get(b"name") for each in types]
    for parameter in given:
        if parameter is None:
            continue
        _joined(parameter, flaws)
        for text in _texts(parameter):
            read = decoded(text)
            if read != text:
                flaws["encoded_name"] = None
            if len(read) > NAME_LIMIT:
                flaws["long_name"] = None
                read = read[: NAME_LIMIT // 2] + read[-NAME_LIMIT // 2 :]
            found[read] = None
    found.pop("", None)
    if len(found) > 1:
        flaws["names_disagree"] = None
    return tuple(found)
