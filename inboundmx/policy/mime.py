"""The parts of a message (RFC 2045-2049, 5322), as any of its readers may see them, within bounds.

Knows where parts begin and end, and what mail software disagrees about. Does not know what is in a part, nor what a
flaw is worth. Whatever the octets are, nothing is raised, and the work grows with their number alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from inboundmx.policy.mime_fields import Described, described
from inboundmx.policy.transfer import bad_base64, bad_quoted_printable, found_in_lines, undone

FLAWS: Mapping[str, str] = {
    "too_deep": "more parts within parts than are looked at",
    "too_many_parts": "more parts than are looked at",
    "too_large": "more octets than are looked at",
    "too_large_header": "a header section or field longer than is read",
    "too_many_parameters": "a field with more parameters than are read",
    "odd_header": "a line of a header section is no field, or ends otherwise than it should",
    "no_header_end": "a part begins with something that is no header, or its header has no end",
    "two_content_types": "two Content-Type fields that differ",
    "two_dispositions": "two Content-Disposition fields that differ",
    "two_transfer_encodings": "two Content-Transfer-Encoding fields that differ",
    "odd_content_type": "a Content-Type that is none",
    "bad_transfer_encoding": "a Content-Transfer-Encoding that is none, or not for this type",
    "comment": "a comment in a Content field",
    "odd_parameter": "a parameter that is neither a token nor a quoted string",
    "two_parameters": "a parameter that is given twice",
    "bad_continuation": "a parameter in pieces that do not fit together",
    "names_disagree": "a file with several names",
    "encoded_name": "a file's name in encoded words",
    "long_name": "a file's name longer than is kept",
    "odd_boundary": "a boundary that can be read in several ways",
    "no_boundary": "a multipart without a boundary, or where it is never met",
    "no_final_boundary": "a multipart without an end",
    "preamble_parts": "parts before the first boundary",
    "epilogue_parts": "parts behind the last boundary",
    "bad_base64": "base64 with something else in it",
    "bad_quoted_printable": "quoted-printable with something else in it",
    "encoded_message": "a message within the message that is encoded",
    "partial": "a piece of a message (message/partial)",
    "external_body": "a part whose content lies elsewhere (message/external-body)",
    "uuencoded": "a file in uuencode within text",
    "tnef": "a file of Outlook (winmail.dat)",
    "nul": "octets of 0",
}
# With one of these there is more in the message than ``parts`` shows.
UNSEEN = frozenset({"too_deep", "too_many_parts", "too_large"})


class Limits(NamedTuple):
    """``octets`` of the message, and again of all that is decoded of messages within it; ``header_octets`` of one
    header section; ``delimiters`` of all multiparts together, those that only look like some included; ``passes``: how
    often the octets may be gone through, once for each multipart that they are in."""

    depth: int = 40
    parts: int = 1000
    octets: int = 64 * 1024 * 1024
    header_octets: int = 256 * 1024
    delimiters: int = 20_000
    passes: int = 12


LIMITS = Limits()


class Part(NamedTuple):
    """``path``: "1" is the message, "1.2" its second part. ``container``: other parts are within this one.
    ``type`` in lower case, ``text/plain`` where none is given. ``name`` is the likeliest of ``names``, each decoded;
    empty where there is none; not made printable. ``source[start:end]`` is the content as it is encoded: ``source`` is
    the whole message, or what was decoded of an encoded message within it."""

    path: str
    type: str
    charset: str
    disposition: str
    encoding: str
    name: str
    names: tuple[str, ...]
    depth: int
    source: bytes
    start: int
    end: int
    container: bool
    flaws: tuple[str, ...]


class Walked(NamedTuple):
    """``parts`` in the order they come; ``flaws`` of all of them, each once; ``complete``: nothing was left out."""

    parts: tuple[Part, ...]
    flaws: tuple[str, ...]
    complete: bool


# A message smaller than this costs little however often it is gone through.
_SMALL = 1024 * 1024
_MESSAGES = frozenset({"message/rfc822", "message/global", "message/news"})
# Names of files that mail software opens as messages.
_MESSAGE_NAMES = (".eml", ".mht", ".mhtml")
_TNEF = frozenset({"application/ms-tnef", "application/vnd.ms-tnef"})
_BLANK_LINE = re.compile(rb"\n\r?\n")
_FIELD_OR_BLANK = re.compile(rb"\r?\n|>?From |[!-9;-~]++[ \t]*:")
_ANY_PART = re.compile(rb"(?im)^--[^\r\n]{1,200}\r?\ncontent-[a-z-]+[ \t]*:")
_FIRST_DELIMITER = re.compile(rb"(?m)^--([^\r\n]{1,200}?)[ \t]*\r?$")
_UUENCODED = re.compile(rb"(?m)^begin [0-7]{3,4} ([^\r\n]{1,400})\r?\n([ -`])([^\r\n]*)\r?\n")


def walk(octets: bytes | memoryview, limits: Limits = LIMITS) -> Walked:
    """``octets``: a message, its lines ending in CRLF or LF."""
    source = bytes(octets[: limits.octets])
    walking = _Walking(limits, len(source))
    if len(source) < len(octets):
        walking.flaws["too_large"] = None
    if b"\0" in source:
        walking.flaws["nul"] = None
    walking.entity(source, 0, len(source), "1", 0, "text/plain")
    return Walked(tuple(walking.parts), tuple(walking.flaws), UNSEEN.isdisjoint(walking.flaws))


def decoded(part: Part) -> bytes:
    """The content of a part, its transfer encoding undone: never longer than it is in the message. Raises nothing."""
    return undone(part.source[part.start : part.end], part.encoding)


class _Walking:
    __slots__ = ("delimiters", "flaws", "left", "limits", "parts", "to_scan")

    def __init__(self, limits: Limits, size: int) -> None:
        self.limits = limits
        self.to_scan = limits.passes * max(size, _SMALL)
        self.parts: list[Part] = []
        self.flaws: dict[str, None] = {}
        # Octets that may yet be decoded, and delimiters that may yet be looked at.
        self.left = limits.octets
        self.delimiters = limits.delimiters

    def entity(self, source: bytes, start: int, end: int, path: str, depth: int, default: str) -> None:
        """A header and what it describes; ``default``: its type when it does not say."""
        if depth > self.limits.depth:
            self.flaws["too_deep"] = None
            return
        if len(self.parts) >= self.limits.parts:
            self.flaws["too_many_parts"] = None
            return
        flaws: dict[str, None] = {}
        header_end, body = self._header(source, start, end, flaws)
        said = described(source[start:header_end], default)
        flaws.update(dict.fromkeys(said.flaws))
        place = len(self.parts)
        self.parts.append(_part(said, path, depth, source, body, end, False, ()))
        container = self._within(said, source, body, end, path, depth, flaws)
        made = _part(said, path, depth, source, body, end, container, tuple(flaws))
        if not container:
            made = self._leaf(made, flaws)
        self.parts[place] = made
        self.flaws.update(flaws)

    def _header(self, source: bytes, start: int, end: int, flaws: dict[str, None]) -> tuple[int, int]:
        """Where the header section ends, and where the body begins."""
        if start == end or source.startswith((b"\n", b"\r\n"), start, end):
            return start, min(end, source.find(b"\n", start) + 1 or end)
        if not _FIELD_OR_BLANK.match(source, start, end):
            flaws["no_header_end"] = None
        most = min(end, start + self.limits.header_octets)
        blank = _BLANK_LINE.search(source, start, most)
        if blank is not None:
            return blank.start() + 1, blank.end()
        if most < end:
            flaws["too_large_header"] = None
        elif "no_header_end" in flaws:
            # Nothing but text: read as the body by most.
            return start, start
        return most, most

    def _within(
        self, said: Described, source: bytes, start: int, end: int, path: str, depth: int, flaws: dict[str, None]
    ) -> bool:
        """Walks the parts of a part, if it can have any."""
        multipart = said.type.startswith("multipart/")
        if not multipart and said.type not in _MESSAGES and not is_message_file(said.names):
            return False
        if said.encoding:
            # Not allowed (RFC 2045 6.4, 2046 5.2.1), and undone by some.
            if multipart:
                flaws["bad_transfer_encoding"] = None
            elif said.type in _MESSAGES:
                flaws["encoded_message"] = None
            if not multipart or not self._has_delimiter(said, source, start, end):
                self.left -= end - start
                if self.left < 0:
                    flaws["too_large"] = None
                    return False
                source = undone(source[start:end], said.encoding)
                start, end = 0, len(source)
        if multipart:
            return self._multipart(said, source, start, end, path, depth, flaws)
        self.entity(source, start, end, f"{path}.1", depth + 1, "text/plain")
        return True

    def _has_delimiter(self, said: Described, source: bytes, start: int, end: int) -> bool:
        return any(source.find(b"--" + boundary, start, end) >= 0 for boundary in said.boundaries)

    def _multipart(
        self, said: Described, source: bytes, start: int, end: int, path: str, depth: int, flaws: dict[str, None]
    ) -> bool:
        default = "message/rfc822" if said.type == "multipart/digest" else "text/plain"
        spans: list[tuple[int, int]] = []
        for boundary in said.boundaries:
            spans = self._spans(boundary, source, start, end, flaws)
            if spans:
                break
        else:
            flaws["no_boundary"] = None
            guessed = _FIRST_DELIMITER.search(source, start, min(end, start + self.limits.header_octets))
            if guessed is not None:
                spans = self._spans(guessed[1], source, start, end, flaws)
        for number, (part_start, part_end) in enumerate(spans, 1):
            if len(self.parts) >= self.limits.parts:
                flaws["too_many_parts"] = None
                break
            self.entity(source, part_start, part_end, f"{path}.{number}", depth + 1, default)
        return bool(spans)

    def _spans(
        self, boundary: bytes, source: bytes, start: int, end: int, flaws: dict[str, None]
    ) -> list[tuple[int, int]]:
        """Where the parts between delimiters begin and end (RFC 2046 5.1.1)."""
        delimiter = b"--" + boundary
        within = b"\n" + delimiter
        spans: list[tuple[int, int]] = []
        self.to_scan -= end - start
        if self.to_scan < 0:
            flaws["too_deep"] = None
            return spans
        if source.find(b"\r" + delimiter, start, end) >= 0:
            flaws["odd_boundary"] = None
        at = start if source.startswith(delimiter, start, end) else source.find(within, start, end) + 1
        began, closed, preamble_end = -1, -1, -1
        while at > 0 or (at == start and began < 0 and closed < 0 and source.startswith(delimiter, start, end)):
            self.delimiters -= 1
            if self.delimiters < 0:
                flaws["too_many_parts"] = None
                break
            line_end = source.find(b"\n", at, end)
            line_end = end if line_end < 0 else line_end
            after = source[at + len(delimiter) : min(line_end, at + len(delimiter) + 200)].rstrip(b" \t\r")
            if not after or after.startswith(b"--"):
                if len(after) > 2:
                    flaws["odd_boundary"] = None
                if preamble_end < 0:
                    preamble_end = at
                if began >= 0:
                    spans.append((began, _before(source, began, at)))
                elif closed >= 0:
                    flaws["epilogue_parts"] = None
                began = -1 if after else min(end, line_end + 1)
                closed = min(end, line_end + 1) if after else closed
            else:
                # Some take it for the delimiter, since it begins like it.
                flaws["odd_boundary"] = None
            at = source.find(within, line_end, end) + 1
        if began >= 0:
            flaws["no_final_boundary"] = None
            spans.append((began, end))
        elif closed >= 0 and any(found_in_lines(_ANY_PART, source, closed, end)):
            flaws["epilogue_parts"] = None
        if preamble_end > start and any(found_in_lines(_ANY_PART, source, start, preamble_end)):
            flaws["preamble_parts"] = None
        return spans

    def _leaf(self, part: Part, flaws: dict[str, None]) -> Part:
        """Marks what can be said of the content without decoding it; files within text become parts of their own."""
        content_type, source, start, end = part.type, part.source, part.start, part.end
        if part.encoding == "base64" and bad_base64(source[start:end]):
            flaws["bad_base64"] = None
        elif part.encoding == "quoted-printable" and bad_quoted_printable(source[start:end]):
            flaws["bad_quoted_printable"] = None
        if content_type == "message/partial":
            flaws["partial"] = None
        elif content_type == "message/external-body":
            flaws["external_body"] = None
        elif content_type in _TNEF or part.name.lower() == "winmail.dat":
            flaws["tnef"] = None
        files = []
        if not part.encoding and source.find(b"begin ", start, end) >= 0:
            files = [match for match in found_in_lines(_UUENCODED, source, start, end) if _is_uuencoded(match)]
        for number, match in enumerate(files, 1):
            flaws["uuencoded"] = None
            if len(self.parts) >= self.limits.parts:
                flaws["too_many_parts"] = None
                break
            before = files[number].start() if number < len(files) else end
            found = source.find(b"\nend", match.end(1), before)
            file_end = min(before, found + 5) if found >= 0 else before
            name = match[1].strip().decode("utf-8", "replace")
            self.parts.append(
                Part(
                    f"{part.path}.{number}", "application/octet-stream", "", "attachment", "uuencode", name, (name,),
                    part.depth + 1, source, match.start(), file_end, False, ("uuencoded",),
                )
            )  # fmt: skip
        return part._replace(flaws=tuple(flaws))


def _part(
    said: Described, path: str, depth: int, source: bytes, start: int, end: int, container: bool, flaws: tuple[str, ...]
) -> Part:
    name = said.names[0] if said.names else ""
    return Part(
        path, said.type, said.charset, said.disposition, said.encoding, name, said.names, depth, source, start, end,
        container, flaws,
    )  # fmt: skip


def is_message_file(names: Iterable[str]) -> bool:
    """Whether mail software opens a file with one of these names as a message."""
    return any(name.rstrip(" .").lower().endswith(_MESSAGE_NAMES) for name in names)


def _is_uuencoded(match: re.Match[bytes]) -> bool:
    """Whether the first line behind "begin 644 name" is as long as it says; prose is not."""
    octets = (match[2][0] - 32) & 63
    wanted = (octets + 2) // 3 * 4
    return match[3] == b"end" if not octets and match[3] else abs(len(match[3]) - wanted) <= 2


def _before(source: bytes, start: int, delimiter: int) -> int:
    """The end of what stands before a delimiter: the line end in front of it is its own."""
    end = delimiter - 1
    if end > start and source[end - 1] == 0x0D:
        end -= 1
    return max(start, end)
