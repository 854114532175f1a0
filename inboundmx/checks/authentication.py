"""Clauses for Authentication-Results (RFC 8601 2.2).

Knows its grammar. Does not know which check has something to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# A clause must stay whole when it is stamped, and no line may come near the 998 of RFC 5322 2.1.1.
CLAUSES_LIMIT = 900
VALUE_LIMIT = 255

# A token of RFC 2045 5.1.
_TOKEN = re.compile(r"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+")
_NOT_PRINTABLE = re.compile(r"[^ -~]")


def pvalue(text: str) -> str:
    """A value as the grammar asks: a token as it is, anything else as a quoted string without what is not printable."""
    text = text[:VALUE_LIMIT]
    if _TOKEN.fullmatch(text):
        return text
    quoted = _NOT_PRINTABLE.sub("?", text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'


def clause(method: str, result: str, properties: Iterable[tuple[str, str]], comment: str = "") -> str:
    """``dkim=fail (body has been altered) header.d=a.example``. ``comment`` is of our own words: no parentheses."""
    said = f" ({comment})" if comment else ""
    return f"{method}={result}{said}" + "".join(f" {name}={pvalue(value)}" for name, value in properties)


def joined(clauses: Iterable[str]) -> str:
    """Several clauses as one text; those that find no room are left out whole."""
    text = ""
    for each in clauses:
        longer = f"{text}; {each}" if text else each
        if len(longer) <= CLAUSES_LIMIT:
            text = longer
    return text
