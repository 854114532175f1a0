"""What a mailbox is called. Knows nothing of how one is written on the wire; ``smtp.commands`` parses."""

from __future__ import annotations

from inboundmx.model.record import record


@record(frozen=True, slots=True)
class Address:
    """A mailbox. The null sender ``<>`` is ``None``, never an empty Address.

    ``local`` is the local part in its shortest wire form: a dot-string as it is, anything else as a quoted string with
    its quotes. ``domain`` is the lower-case A-label form; it is empty only for the bare ``Postmaster`` of RFC 5321
    4.5.1.
    """

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}" if self.domain else self.local

    @property
    def ascii(self) -> bool:
        """Whether it can be written without SMTPUTF8 (RFC 6531)."""
        return self.local.isascii()


def written(address: Address | None) -> str:
    """The address as text, the null sender as an empty string."""
    return "" if address is None else str(address)
