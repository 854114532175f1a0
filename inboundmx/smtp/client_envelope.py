"""What MAIL and RCPT say of a parcel to a host with these extensions (RFC 1870, 6152, 6531, 3461).

Knows what a host must offer to be given a parcel at all, and that nothing handed on from outside may break a line. Does
not know the connection, nor the answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from inboundmx.model.address import written
from inboundmx.model.custody import Parcel
from inboundmx.model.reply import Reply

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# RFC 3461 4: what is passed on was checked when it was said; here only what could do harm, or breaks the grammar.
_RET = re.compile(r"FULL|HDRS", re.IGNORECASE)
_NOTIFY = re.compile(r"NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY)){0,2}", re.IGNORECASE)
_ENVID = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2}){1,100}")
_ORIGINAL = re.compile(r"[A-Za-z0-9-]{1,40};(?:[!-*,-<>-~]|\+[0-9A-F]{2}){1,500}")


class Unfit(Exception):
    """This host cannot be given the parcel: an answer for all recipients, and a word of DeliveryAttempt.trouble."""

    def __init__(self, reply: Reply, trouble: str) -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.trouble = trouble


def mail_command(parcel: Parcel, extensions: Mapping[str, str]) -> str:
    """Raises Unfit."""
    sender = written(parcel.sender)
    addresses = [sender, *map(str, parcel.recipients)]
    if any(map(_CONTROL.search, addresses)):
        raise Unfit(Reply(553, "5.1.3", "an address holds control characters"), "unable")
    words = [f"MAIL FROM:<{sender}>"]
    limit = extensions.get("SIZE")
    if limit is not None:
        if limit.isdecimal() and 0 < int(limit) < parcel.content.size:
            # The host's own answer for this message, given in advance (RFC 1870 6.1).
            raise Unfit(Reply(552, "5.3.4", f"the mail server takes messages of up to {int(limit)} octets"), "")
        if not parcel.question:
            words.append(f"SIZE={parcel.content.size}")
    if parcel.eight_bit and "8BITMIME" in extensions:
        words.append("BODY=8BITMIME")
    if _needs_utf8(parcel, addresses):
        if "SMTPUTF8" not in extensions:
            raise Unfit(Reply(553, "5.6.7", "the mail server does not take internationalized mail"), "unable")
        words.append("SMTPUTF8")
    if (parcel.ret or parcel.envid) and "DSN" in extensions:
        if _RET.fullmatch(parcel.ret):
            words.append(f"RET={parcel.ret}")
        if _ENVID.fullmatch(parcel.envid):
            words.append(f"ENVID={parcel.envid}")
    return " ".join(words)


def _needs_utf8(parcel: Parcel, addresses: list[str]) -> bool:
    """RFC 6531 3.4: only when an address or the header section is not ASCII."""
    if not all(map(str.isascii, addresses)):
        return True
    if not parcel.utf8:
        return False
    content = parcel.content
    start = b"\r\n" + content.prefix + content.body.head[content.skip :]
    return not start.partition(b"\r\n\r\n")[0].isascii()


def recipient_commands(parcel: Parcel, extensions: Mapping[str, str]) -> list[str]:
    if not parcel.dsn or "DSN" not in extensions:
        return [f"RCPT TO:<{recipient}>" for recipient in parcel.recipients]
    pairs = zip(parcel.recipients, parcel.dsn, strict=True)
    return [f"RCPT TO:<{recipient}>{_wishes(notify, original)}" for recipient, (notify, original) in pairs]


def _wishes(notify: str, original: str) -> str:
    said = f" NOTIFY={notify}" if _NOTIFY.fullmatch(notify) else ""
    if original[:6].lower() == "utf-8;":
        # Said so, it needs no SMTPUTF8 on the way (RFC 6533 3).
        original = "".join(c if c.isascii() else f"\\x{{{ord(c):X}}}" for c in original)
    return f"{said} ORCPT={original}" if _ORIGINAL.fullmatch(original) else said
