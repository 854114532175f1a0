"""What a check saw, in a word."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from inboundmx.model.address import Address


class Stage(enum.IntEnum):
    """The moments of an SMTP conversation at which checks run."""

    CONNECT = 0
    HELLO = 1
    SENDER = 2
    RECIPIENT = 3
    MESSAGE = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """``outcome``: a word of the check's own list. ``detail``: printable, for people. ``authentication``: a clause for
    Authentication-Results such as ``spf=pass smtp.mailfrom=a.example``, or empty."""

    outcome: str
    detail: str = ""
    authentication: str = ""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """``check`` is the name in the INI, ``kind`` what it uses; ``recipient`` where the result holds for one alone."""

    check: str
    kind: str
    stage: Stage
    finding: Finding
    recipient: Address | None = None
    elapsed_seconds: float = 0.0
