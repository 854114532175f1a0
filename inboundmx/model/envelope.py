"""Who sends to whom (RFC 5321 2.3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from inboundmx.model.address import Address
from inboundmx.model.record import record


@record(frozen=True, slots=True)
class Envelope:
    """``declared_size`` in octets, None when MAIL had no SIZE; ``eight_bit`` is BODY=8BITMIME, ``utf8`` SMTPUTF8.
    ``ret`` and ``envid`` are RET and ENVID as they were said, ``dsn`` NOTIFY and ORCPT of the recipients that had any
    (RFC 3461 4); empty when they were not said."""

    sender: Address | None
    recipients: tuple[Address, ...] = ()
    declared_size: int | None = None
    eight_bit: bool = False
    utf8: bool = False
    ret: str = ""
    envid: str = ""
    dsn: Mapping[Address, tuple[str, str]] = field(default_factory=dict)
