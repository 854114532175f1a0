"""How ids are made: sortable by time, unguessable, letters and digits only. Does not know whose they are."""

from __future__ import annotations

# Crockford's base 32: no i, l, o, u, so that an id can be read out on the telephone.
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
TOKEN_LENGTH = 6


def make_id(now: float, token: str) -> str:
    """15 letters and digits: nine for the millisecond of ``now`` (good until the year 3084), then ``token``."""
    milliseconds = int(now * 1000)
    digits = [ALPHABET[(milliseconds >> shift) & 31] for shift in range(40, -5, -5)]
    return "".join(digits) + token
