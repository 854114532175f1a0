"""SPF records as text: how large one may be, and which look-ups can be seen in it.

Knows the terms of RFC 7208 5 and 6 as far as that. Does not evaluate a record; ``spf_replay`` has a library do it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from inboundmx.checks.questions import Question
from inboundmx.ports import Answer

# Octets of a record and of one term of it: a record that goes beyond is wrong for us, for the time that reading it
# takes grows with the square of a term. RFC 7208 3.4 asks for records of some 450 octets.
RECORD_LIMIT = 4096
TERM_LIMIT = 320

_VERSION = re.compile(rb"v=spf1(?: |$)", re.IGNORECASE)
_TERM = re.compile(r"(?:[+?~-]?(include|exists|a|mx)(?::([^%/]+))?(?:/.*)?|redirect=([^%]+))", re.IGNORECASE)


def is_record(text: bytes) -> bool:
    return _VERSION.match(text) is not None


def too_large(record: bytes) -> bool:
    return len(record) > RECORD_LIMIT or any(len(term) > TERM_LIMIT for term in record.split(b" "))


def visible(question: Question, answer: Answer, address_type: str) -> Iterator[Question]:
    """The questions that an answer leads to, in order, as far as they can be told without evaluating macros.

    ``address_type``: A or AAAA, as the client's address is.
    """
    name, type = question
    if type in ("MX", "PTR"):
        for row in answer.rows[:10]:
            yield str(row[1] if type == "MX" else row), address_type
    elif type == "TXT":
        for record in answer.rows:
            if is_record(record):
                for term in record.decode("ascii", "replace").split(" ")[1:]:
                    match = _TERM.fullmatch(term)
                    if match is not None:
                        yield _asked(match, name, address_type)


def _asked(match: re.Match[str], name: str, address_type: str) -> Question:
    mechanism, argument, redirect = match.groups()
    if redirect:
        return _plain(redirect), "TXT"
    target = _plain(argument) if argument else name
    return target, {"include": "TXT", "exists": "A", "mx": "MX"}.get(mechanism.lower(), address_type)


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")
