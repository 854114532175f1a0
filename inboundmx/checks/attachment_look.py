"""Looks at the files of one message, those within archives included, until a limit is met.

Knows which limits there are, and what is worse than what. Does not know where it runs; it holds up whoever calls it for
as long as its budget allows.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple

import puremagic

from inboundmx.model.finding import Finding
from inboundmx.policy import macros
from inboundmx.policy.archives import entries
from inboundmx.policy.file_names import Names
from inboundmx.policy.file_types import ARCHIVES, HEAD, WHOLE, WORDS, true_type
from inboundmx.policy.mime import LIMITS, Part, Walked, decoded, is_message_file, walk
from inboundmx.policy.unpacking import PIECE, Broken, Budget, Decompressor, Sealed, TooDeep
from inboundmx.ports import Unavailable

# From the worst on: of a message that is several of these, the first counts.
WORST = ("forbidden", "too_deep", "macro", "encrypted", "malformed")
# Flaws of a message behind which something may be that we do not see and a reader does; the others are looked through.
HIDING = frozenset(
    {
        *("odd_header", "no_header_end", "too_large_header", "too_many_parameters", "comment", "nul"),
        *("two_content_types", "two_transfer_encodings", "bad_transfer_encoding", "bad_base64", "bad_continuation"),
        *("odd_boundary", "no_boundary", "no_final_boundary", "preamble_parts", "epilogue_parts"),
        *("encoded_message", "partial", "external_body"),
    }
)
UNSEEN = frozenset({"too_deep", "too_many_parts", "too_large"})
# What most readers show of a message, and nobody saves as a file.
SHOWN = frozenset({"text/plain", "text/html"})
# What has a name and is no file for all that.
_NO_FILES = ("multipart/", "message/")
# Extensions of documents that may be text with macros in it.
_TEXT_DOCUMENTS = (".doc", ".docm", ".dot", ".xml", ".mht", ".mhtml", ".htm", ".html", ".xls", ".ppt", ".rtf")
_TEXT = ("", "html", "rtf")
# Letters of one name, octets at the end of a file where the table of contents of a zip archive may stand, and reasons
# that are kept.
_NAME = 60
_TAIL = 65535 + 22
_REASONS = 5
# Documents of a message whose macros are read, and words that are told of each.
_READ = 3
_WORDS = 5
# log2 of the window that zstd may ask for: 32 MB.
_WINDOW = 25


class Rules(NamedTuple):
    """What the operator wants. ``types``: words of WORDS; ``kinds``: MIME types or extensions, asked of a library."""

    names: Names
    types: frozenset[str]
    kinds: frozenset[str]
    depth: int
    files: int
    ratio: int
    size: int
    unreadable: str
    # Reads what macros would do, in so many seconds; None: that there are macros is enough.
    macros: Callable[[bytes, float], tuple[str, ...]] | None = None


class Found:
    """Reasons by outcome, and what was not looked at though it is clean."""

    __slots__ = ("_reasons",)

    def __init__(self) -> None:
        self._reasons: dict[str, dict[str, None]] = {}

    def note(self, outcome: str, reason: str) -> None:
        reasons = self._reasons.setdefault(outcome, {})
        if len(reasons) < _REASONS:
            reasons[reason] = None

    def finding(self) -> Finding:
        told = [f"{outcome}: {', '.join(self._reasons[outcome])}" for outcome in WORST if outcome in self._reasons]
        if not told:
            return Finding("clean", ", ".join(self._reasons.get("clean", ())))
        outcome = next(word for word in WORST if word in self._reasons)
        told[0] = told[0].removeprefix(f"{outcome}: ")
        return Finding(outcome, "; ".join(told))


def flawed(walked: Walked, rules: Rules, found: Found, within: str = "") -> None:
    """What the walk itself says; ``within``: where the message is that was walked."""
    for part in walked.parts:
        for flaw in part.flaws:
            if flaw in HIDING:
                found.note("malformed", f"{within}{flaw} in part {part.path}")
        if part.container and part.names and not part.type.startswith(_NO_FILES):
            # It opens as a message by one of its names: by another it may be a program.
            _name(part.names, f"{within}{_place(part)}", rules, found)
    for flaw in walked.flaws:
        if flaw in UNSEEN:
            found.note("too_deep", f"{within}{flaw}")
        elif flaw == "nul":
            found.note("malformed", f"{within}{flaw}")


def at_once(part: Part, rules: Rules, found: Found) -> bool:
    """Judges a small part without unpacking anything; False: it has to be looked at in earnest."""
    _name(part.names, _place(part), rules, found)
    if part.type in SHOWN and not part.names:
        # Only its beginning: what a reader shows as text harms nobody, unless it is saved.
        octets = decoded(part._replace(end=min(part.end, part.start + 400)))
    else:
        octets = decoded(part)
        if rules.kinds or _may_be_zip(octets) or _in_text(octets, part.names) or is_message_file(part.names):
            return False
    kind = true_type(octets)
    if kind in rules.types:
        found.note("forbidden", f"{_place(part)} is {WORDS[kind]}")
    return kind not in WHOLE


def look(parts: Iterable[Part], rules: Rules, now: Callable[[], float], deadline: float, found: Found) -> None:
    """``deadline``: a time of ``now`` after which nothing more is looked at."""
    budget = Budget(rules.size, rules.files, rules.ratio, now, deadline)
    looking = _Looking(rules, budget, found, lambda: deadline - now())
    place = ""
    parts = tuple(parts)
    # Before any limit can be met: names cost nothing.
    for part in parts:
        _name(part.names, _place(part), rules, found)
    try:
        for part in parts:
            place = _place(part)
            budget.tick()
            octets = decoded(part)
            budget.begin(len(octets))
            looking.part(octets, part.names, place, 0)
    except TooDeep as limit:
        found.note("too_deep", f"{place}: {limit}")


class _Looking:
    __slots__ = ("_budget", "_found", "_read", "_rules", "_seconds_left")

    def __init__(self, rules: Rules, budget: Budget, found: Found, seconds_left: Callable[[], float]) -> None:
        self._rules = rules
        self._budget = budget
        self._found = found
        self._seconds_left = seconds_left
        self._read = 0

    def part(self, octets: bytes, names: tuple[str, ...], place: str, depth: int) -> None:
        """What a message brings."""
        self.file(octets, names, place, depth)
        if _may_be_zip(octets) and true_type(octets) != "zip":
            # Something else stands in front of it, and it opens as an archive all the same.
            self.archive(octets, "zip", names[0] if names else "", place, depth)

    def file(self, octets: bytes, names: tuple[str, ...], place: str, depth: int) -> None:
        """``octets``: all of it, or the beginning where its kind needs no more."""
        note = self._found.note
        kind = true_type(octets)
        if kind in self._rules.types:
            note("forbidden", f"{place} is {WORDS[kind]}")
        elif not kind and self._rules.kinds and (named := _kinds(octets) & self._rules.kinds):
            note("forbidden", f"{place} is {min(named)}")
        if kind == "ole":
            # Of what a document keeps its macros in, the document itself is told.
            part = depth > 0 and any(map(macros.is_part, names))
            if not part and macros.in_compound_file(octets):
                self._macros(octets, place)
            if macros.sealed_compound_file(octets):
                note("encrypted", place)
        elif kind in _TEXT and _in_text(octets, names):
            self._macros(octets, place)
        if kind in ARCHIVES:
            self.archive(octets, kind, names[0] if names else "", place, depth)
        elif is_message_file(names):
            self._message(octets, place, depth)

    def _message(self, octets: bytes, place: str, depth: int) -> None:
        """A message among the files: its parts are files as those of an archive are."""
        self._deeper(depth)
        within = f"{place} > "
        message = walk(octets, LIMITS._replace(parts=min(LIMITS.parts, self._budget.files)))
        for _ in message.parts:
            self._budget.file()
        flawed(message, self._rules, self._found, within)
        files = [part for part in message.parts if not part.container]
        for part in files:
            _name(part.names, within + _place(part), self._rules, self._found)
        for part in files:
            inner = decoded(part)
            self._budget.take(len(inner))
            self.part(inner, part.names, within + _place(part), depth + 1)

    def _deeper(self, depth: int) -> None:
        if depth >= self._rules.depth:
            raise TooDeep(f"archives in archives, more than {self._rules.depth}")

    def archive(self, octets: bytes, kind: str, name: str, place: str, depth: int) -> None:
        self._deeper(depth)
        note = self._found.note
        with_macros = ""
        try:
            for entry in entries(octets, kind, name, self._budget, _zstd()):
                within = f"{place} > {_shown(entry.names[0])}" if entry.names else place
                _name(entry.names, within, self._rules, self._found)
                if kind == "zip" and not with_macros and any(map(macros.is_part, entry.names)):
                    with_macros = within
                if entry.wrong:
                    note("malformed", f"{within}: {entry.wrong}")
                if entry.encrypted:
                    note("encrypted", within)
                elif entry.content is None and not entry.wrong:
                    note(self._rules.unreadable, f"{within} cannot be read")
                elif entry.content is not None:
                    self._entry(entry.content(), entry.names, within, depth)
        except Broken as broken:
            note("malformed", f"{place}: {broken}")
        except Sealed:
            note("encrypted", f"{place}, its table of contents too")
        finally:
            if with_macros:
                self._macros(octets, with_macros)

    def _macros(self, octets: bytes, place: str) -> None:
        """They are there; what they would do is asked where the operator wants to know."""
        if self._rules.macros is None:
            self._found.note("macro", place)
            return
        self._read += 1
        if self._read > _READ:
            self._found.note("macro", f"{place}, one of too many with macros")
            return
        try:
            words = self._rules.macros(octets, self._seconds_left())
        except Unavailable as trouble:
            # What nobody could read is not harmless.
            self._found.note("macro", f"{place}: {trouble.reason}")
            return
        if words:
            self._found.note("macro", f"{place}: {', '.join(_shown(word) for word in words[:_WORDS])}")

    def _entry(self, pieces: Iterator[bytes], names: tuple[str, ...], place: str, depth: int) -> None:
        """All of it is unpacked, so that nothing is larger than it says; only what has files in it is kept for it."""
        kept = bytearray()
        whole = is_message_file(names)
        try:
            for piece in pieces:
                self._budget.take(len(piece))
                if whole or len(kept) < PIECE:
                    kept += piece
                    whole = whole or true_type(bytes(kept[:HEAD])) in WHOLE
        except (Broken, ValueError) as broken:
            self._found.note("malformed", f"{place}: {broken}")
        self.file(bytes(kept), names, place, depth + 1)


class _Zstd:
    """A decompressor whose errors are those that are expected of one."""

    __slots__ = ("_error", "_made")

    def __init__(self, module: Any) -> None:
        self._made = module.ZstdDecompressor(options={module.DecompressionParameter.window_log_max: _WINDOW})
        self._error = module.ZstdError

    @property
    def eof(self) -> bool:
        return bool(self._made.eof)

    @property
    def needs_input(self) -> bool:
        return bool(self._made.needs_input)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._made.unused_data)

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        try:
            return bytes(self._made.decompress(data, max_length))
        except self._error as error:
            raise OSError(str(error)) from None


@cache
def _zstd() -> Callable[[], Decompressor] | None:
    """Of the standard library from Python 3.14 on, before that of a library with the same face, where that is there."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return partial(_Zstd, importlib.import_module(name))
        except ImportError:
            continue
    return None


def _name(names: tuple[str, ...], place: str, rules: Rules, found: Found) -> None:
    for name in names:
        wrong = rules.names.wrong(name)
        if wrong:
            found.note("forbidden", f"{place} has {wrong}")
            return


def _kinds(octets: bytes) -> frozenset[str]:
    """MIME types and extensions that a library takes the octets for."""
    try:
        matches = puremagic.magic_string(octets[:HEAD])
    except (puremagic.PureError, ValueError):
        return frozenset()
    return frozenset(word for match in matches for word in (match.mime_type.lower(), match.extension.lower()) if word)


def _may_be_zip(octets: bytes) -> bool:
    return octets.rfind(b"PK\x05\x06", max(0, len(octets) - _TAIL)) >= 0


def _in_text(octets: bytes, names: tuple[str, ...]) -> bool:
    return any(name.lower().endswith(_TEXT_DOCUMENTS) for name in names) and macros.in_text(octets)


def _place(part: Part) -> str:
    return f"part {part.path} {_shown(part.name)}" if part.name else f"part {part.path}"


def _shown(name: str) -> str:
    """Printable, and not longer than it helps; the end of a name says most."""
    if len(name) > _NAME:
        name = f"{name[:10]}...{name[-_NAME + 13 :]}"
    return "".join(sign if sign.isprintable() else "?" for sign in name)
