"""Who sends to whom (RFC 5321 2.3.1)."""

from __future__ import annotations

from dataclasses import dataclass

from inboundmx.model.address import Address


@dataclass(frozen=True, slots=True)
class Envelope:
    """``declared_size`` in octets, None when MAIL had no SIZE; ``eight_bit`` is BODY=8BITMIME, ``utf8`` SMTPUTF8."""

    sender: Address | None
    recipients: tuple[Address, ...] = ()
    declared_size: int | None = None
    eight_bit: bool = False
    utf8: bool = False
