"""What a check saw, in a word."""

from __future__ import annotations

import enum
from typing import Literal

from inboundmx.model.address import Address
from inboundmx.model.record import record


class Stage(enum.IntEnum):
    """The moments of an SMTP conversation at which checks run."""

    CONNECT = 0
    HELLO = 1
    SENDER = 2
    RECIPIENT = 3
    MESSAGE = 4


@record(frozen=True, slots=True)
class Finding:
    """``outcome``: a word of the check's own list. ``detail``: printable, for people. ``authentication``: a clause for
    Authentication-Results such as ``spf=pass smtp.mailfrom=a.example``, or empty. ``advice``: what a stranger who is
    put off because of it is told, in words of ours alone; empty: nothing in particular. ``points`` are added to what
    the outcome weighs, where that is a number: a score that the check brings itself.
    ``facts``: names and values that other parts read: ``spf_mailfrom``, ``spf_helo`` and ``dkim`` each a domain that
    passed, ``dkim_sender`` the envelope sender's domain where one that passed DKIM is aligned with it;
    ``spf_mailfrom_temperror``, ``spf_helo_temperror`` and ``dkim_temperror`` each a domain about which DNS gave no
    answer; ``arc_sealer`` one whose ARC seal is trusted, ``arc_dmarc``, ``arc_spf`` and ``arc_dkim`` each a domain that
    it saw pass; ``unverified`` (without a value) where it could not be asked whether the recipient exists.
    ``enhanced``: subject and detail of RFC 3463 for a refusal because of it, such as "1.1"; with it ``advice`` is told
    when it refuses for good as well. Empty: what a matter of policy has."""

    outcome: str
    detail: str = ""
    authentication: str = ""
    advice: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    points: float = 0.0
    enhanced: str = ""


@record(frozen=True, slots=True)
class CheckResult:
    """``check`` is the name in the INI, ``kind`` what it uses; ``recipient`` where the result holds for one alone.
    ``excused``: because of who the client or the sender is it weighs nothing (``all``), or is not counted for blocking
    (``blocking``)."""

    check: str
    kind: str
    stage: Stage
    finding: Finding
    recipient: Address | None = None
    elapsed_seconds: float = 0.0
    excused: Literal["", "blocking", "all"] = ""
