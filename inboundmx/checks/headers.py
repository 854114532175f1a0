"""Whether a header field is there, and says what the operator looks for (SmarterMail's Custom Headers).

Knows fields and encoded words (RFC 2047). Does not know what a match is worth.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any, ClassVar, Literal

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.checks.patterns import BoundedPattern
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.message import Field
from inboundmx.model.verdict import Weight
from inboundmx.policy.encoded_words import decoded

# Octets of one field, and fields of one message, that are looked at: a stranger chooses both.
FIELD_LIMIT = 8 * 1024
FIELDS_LIMIT = 50

_NAME = re.compile(r"[!-9;-~]+")


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
