"""What is told to who asks for an operation, whatever it operates on: rows, or that the request is wrong.

Knows neither what is asked nor how an answer travels.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

# Values that JSON can write.
Row = dict[str, Any]

# A row, a row as JSON text already, or None: nothing yet, and somebody else may have a turn. A Deferred: nothing before
# it fires.
Told = Row | str | Deferred[None] | None


class NotUnderstood(Exception):
    """The request itself is wrong; the text is a sentence for the operator."""
