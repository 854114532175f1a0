"""Whether a header field is there, and says what the operator looks for (SmarterMail's Custom Headers).

Knows fields and encoded words (RFC 2047). Does not know what a match is worth.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any, ClassVar, Literal

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.checks.patterns import BoundedPattern
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.message import Field
from inboundmx.model.verdict import Weight

# Octets of one field, and fields of one message, that are looked at: a stranger chooses both.
FIELD_LIMIT = 8 * 1024
FIELDS_LIMIT = 50

_NAME = re.compile(r"[!-9;-~]+")
_ENCODED = re.compile(r"=\?([A-Za-z0-9_.:+-]{1,40})(?:\*[A-Za-z0-9-]{1,40})?\?([bBqQ])\?([^?]*)\?=")
_BETWEEN = re.compile(r"(\?=)[ \t\r\n]+(?==\?)")
# Only these reach Python's codecs: any other name a stranger thinks of would be looked for on disk, and remembered.
_CHARSETS = frozenset(
    ["utf-8", "utf8", "us-ascii", "ascii", "koi8-r", "koi8-u", "gb2312", "gbk", "gb18030", "big5"]
    + ["shift_jis", "iso-2022-jp", "euc-jp", "euc-kr", "ks_c_5601-1987"]
    + [f"iso-8859-{part}" for part in range(1, 17) if part != 12]
    + [f"windows-125{page}" for page in range(9)]
)


def decoded(text: str) -> str:
    """The text with its encoded words decoded; what cannot be decoded stays as it is, or is replaced. Never raises."""
    if "=?" not in text:
        return text
    return _ENCODED.sub(_word, _BETWEEN.sub(r"\1", text))


def _word(match: re.Match[str]) -> str:
    charset, encoding, encoded = match.groups()
    octets = encoded.encode("utf-8", "replace")
    try:
        if encoding in "qQ":
            octets = binascii.a2b_qp(octets, header=True)
        else:
            octets = binascii.a2b_base64(octets.rstrip(b"=") + b"==")
    except binascii.Error:
        return match[0]
    charset = charset.lower()
    return octets.decode(charset if charset in _CHARSETS else "utf-8", "replace")


class Headers(Check):
    """``match``: a field named ``header`` holds ``value`` (case aside), or ``pattern`` is found in it; with neither,
    it is enough that the field is there. ``absent``: nothing of the kind.

    Of a field the first 8 KB are looked at, of fields of one name the first 50; ``checks.patterns`` may look at less,
    the more freely a pattern repeats.
    """

    kind: ClassVar[str] = "headers"
    stage: ClassVar[Stage] = Stage.MESSAGE
    about: ClassVar[Literal["spam", "origin", "other"]] = "spam"
    outcomes: ClassVar[frozenset[str]] = frozenset({"match", "absent"})
    after: ClassVar[frozenset[str]] = frozenset()
    weights: ClassVar[Mapping[str, Weight]] = {}
    options: ClassVar[tuple[Option, ...]] = (
        Option("header", "text", "", "name of the header field to look at", required=True),
        Option("value", "text", "", "the text to be contained in the field, case aside; empty: the field is enough"),
        Option(
            "pattern", "regex", "",
            "in place of value: a regular expression; the more freely it repeats, the less text it is tried on",
        ),
    )

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None:
        """Raises ValueError for a name that no field can have and for a pattern that is wrong or too dear."""
        name = options["header"].rstrip(":")
        if not _NAME.fullmatch(name):
            raise ValueError(f"header = {options['header']} is not the name of a header field")
        self._name = name.lower()
        self._value = options.get("value", "").casefold()
        pattern = options.get("pattern", "")
        if pattern and self._value:
            raise ValueError("value and pattern are both given: choose one")
        self._pattern = BoundedPattern(pattern) if pattern else None

    async def examine(self, case: Case) -> Finding:
        assert case.message is not None
        named = (field for field in case.message.fields if field.name == self._name)
        texts = (_text(field) for field in islice(named, FIELDS_LIMIT))
        if self._pattern is not None:
            found = self._pattern.found(texts)
        else:
            found = any(self._value in text.casefold() for text in texts)
        return Finding("match", f"{self._name} matches") if found else Finding("absent")


def _text(field: Field) -> str:
    return decoded(field.value[:FIELD_LIMIT].replace(b"\r\n", b"").strip().decode("utf-8", "replace"))
