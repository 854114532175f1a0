"""What is told to who asks for an operation, whatever it operates on: rows, or that the request is wrong.

Knows neither what is asked nor how an answer travels.
"""

from __future__ import annotations

from typing import Any

# Values that JSON can write.
Row = dict[str, Any]


class NotUnderstood(Exception):
    """The request itself is wrong; the text is a sentence for the operator."""
