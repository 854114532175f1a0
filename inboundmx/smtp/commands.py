"""What a command line says.

Knows the grammar of RFC 5321 4.1, of SIZE (RFC 1870), 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531), DSN (RFC 3461, RFC
6533) and PRDR (draft-hall-prdr). Does not know which command may come when, nor whether an address exists. What is not
grammar is refused, never guessed at: an address is read in one way or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from functools import partial
from ipaddress import IPv4Address, IPv6Address

import idna

from inboundmx.model.address import Address
from inboundmx.model.record import record
from inboundmx.model.reply import Reply

# RFC 5321 4.5.3.1.1 names 64 octets as what everybody must take; return addresses that encode a recipient are longer.
LOCAL_LIMIT = 254
DOMAIN_LIMIT = 255
HELLO_LIMIT = 255
# No word of [smtp] forbidden_commands is longer.
WORD_LIMIT = 32
# RFC 3461 4.4 and 4.2.
ENVID_LIMIT = 100
ORCPT_LIMIT = 500


@record(frozen=True, slots=True)
class Hello:
    """EHLO (``extended``) or HELO. ``name`` is what the client calls itself: printable ASCII, not checked further."""

    name: str
    extended: bool


@record(frozen=True, slots=True)
class Mail:
    """``size`` in octets as declared, None without SIZE. ``ret`` in upper case and ``envid`` as it was said, empty
    without RET and ENVID; ``prdr``: each recipient is to hear his own answer after the final dot."""

    sender: Address | None
    size: int | None = None
    eight_bit: bool = False
    utf8: bool = False
    ret: str = ""
    envid: str = ""
    prdr: bool = False


@record(frozen=True, slots=True)
class Rcpt:
    """``notify`` in upper case, no word twice, ``original`` as it was said; empty without NOTIFY and ORCPT."""

    address: Address
    notify: str = ""
    original: str = ""


@record(frozen=True, slots=True)
class Data:
    pass


@record(frozen=True, slots=True)
class Rset:
    pass


@record(frozen=True, slots=True)
class Noop:
    pass


@record(frozen=True, slots=True)
class Vrfy:
    """VRFY or EXPN: who exists is told to neither (RFC 5321 7.3)."""

    verb: str


@record(frozen=True, slots=True)
class Help:
    pass


@record(frozen=True, slots=True)
class Quit:
    pass


@record(frozen=True, slots=True)
class StartTls:
    pass


@record(frozen=True, slots=True)
class Xclient:
    """``text`` is not read yet: hardly anybody may say it."""

    text: str


@record(frozen=True, slots=True)
class Auth:
    """``mechanism`` in upper case, ``initial`` as it was said, None without one (RFC 4954 4). What is no such command
    has no mechanism."""

    mechanism: str
    initial: str | None


@record(frozen=True, slots=True)
class Bad:
    """A line that is refused whatever came before. ``verb`` is empty when it is none that we know of."""

    verb: str
    reply: Reply


Command = Hello | Mail | Rcpt | Data | Rset | Noop | Vrfy | Help | Quit | StartTls | Xclient | Auth | Bad

_UNKNOWN = Reply(500, "5.5.2", "Command not recognized")
_NOT_TEXT = Reply(500, "5.5.2", "Command is not valid UTF-8")
_NO_ARGUMENT = Reply(501, "5.5.4", "This command takes no argument")
_NOT_HERE = Reply(502, "5.5.1", "Command not implemented")
_NOT_MAIL = Reply(554, "5.5.1", "This is a mail server", then_close=True)
_NOT_TLS = Reply(554, "5.5.1", "This is a mail server; TLS begins with STARTTLS", then_close=True)
# Its octets follow at once, without waiting for our answer: only the end of the connection keeps them from being read.
_NO_CHUNKS = Reply(502, "5.5.1", "BDAT is not offered", then_close=True)
_BAD_PARAMETER = Reply(501, "5.5.4", "Parameter not understood")
_UNKNOWN_PARAMETER = Reply(555, "5.5.4", "Parameter not supported")
_NEEDS_UTF8 = Reply(553, "5.6.7", "A non-ASCII address needs SMTPUTF8")
_BAD_UNICODE = Reply(553, "5.6.7", "The address holds characters that are not allowed")
_BAD_HELLO = Reply(501, "5.5.4", "Say who you are: a host name or an address literal")


class _Unfit(Exception):
    """A part of a command is not grammar: the reply to give."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply


_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+"
_DOT_STRING = rf"{_ATOM}(?:\.{_ATOM})*"
_QUOTED = r'"(?:[ !#-\[\]-~\u0080-\U0010ffff]|\\[ -~])*"'
# What may stand in a domain or a literal is looked at afterwards; here only where it ends.
_MAILBOX = re.compile(rf'<({_DOT_STRING}|{_QUOTED})@([^<>@"\\ ]+)>(?: (.*))?')
_NULL = re.compile(r"<>(?: (.*))?")
_POSTMASTER = re.compile(r"<(?i:postmaster)>(?: (.*))?", re.ASCII)
_UNQUOTED = re.compile(_DOT_STRING)
_PAIR = re.compile(r"\\(.)")
_TO_QUOTE = re.compile(r'(["\\])')
# No host name has an underscore (RFC 1123 2.1), but domains that send mail do.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^= \x00-\x1f\x7f]+))?")
_SIZE = re.compile(r"[0-9]{1,20}")
# RFC 3461 4: what is encoded is a printable character too (4.4, and RFC 3464 2.1 for where it is shown).
_XTEXT = r"(?:[!-*,-<>-~]|\+(?:[2-6][0-9A-Fa-f]|7[0-9A-Ea-e]))+"
_ENVID = re.compile(_XTEXT)
_ORCPT = re.compile(rf"(?!utf-8;)[A-Za-z0-9][A-Za-z0-9-]*;{_XTEXT}", re.IGNORECASE | re.ASCII)
# RFC 6533 3: neither "+" nor "=", and a backslash only to name a character; beyond ASCII where SMTPUTF8 was said.
_ORCPT_UTF8 = re.compile(r"(?i:utf-8);(?:[!-*,-<>-\[\]-~\u0080-\U0010ffff]|\\x\{[0-9A-Fa-f]{2,6}\})+")
_NAMED = re.compile(r"\\x\{([0-9A-Fa-f]+)\}")
_MECHANISM = re.compile(r"[A-Za-z0-9_-]{1,20}")
_INITIAL = re.compile(r"=|[A-Za-z0-9+/=]+")
_HEADER_LINE = re.compile(rb"[A-Za-z][A-Za-z0-9-]*:")
# What clients of other protocols begin with: SSH (RFC 4253 4.2), remote desktops (RFC 1006 6), SOCKS 4 and 5.
_FOREIGN = (b"SSH-", b"\x03\0", b"\x04\x01", b"\x05")
_TLS = b"\x16\x03"
FOREIGN_LENGTH = 4
FOREIGN_FIRST = frozenset(each[0] for each in (*_FOREIGN, _TLS))

_BAD_SENDER = Reply(501, "5.1.7", "Bad sender address syntax")
_BAD_RECIPIENT = Reply(501, "5.1.3", "Bad recipient address syntax")


def foreign(beginning: bytes) -> Reply | None:
    """The refusal of a client whose first octets (``FOREIGN_LENGTH`` of them are enough) are those of another protocol
    that need not send lines; else None."""
    if beginning.startswith(_TLS):
        return _NOT_TLS
    return _NOT_MAIL if beginning.startswith(_FOREIGN) else None


def parse(line: bytes, utf8: bool = False, forbidden: Collection[str] = ()) -> Command:
    """The command in a line without its CRLF. ``utf8``: the transaction under way was begun with SMTPUTF8.
    ``forbidden``: words that no mail client says, in upper case.

    Never raises: what cannot be a command is ``Bad`` with the reply to give.
    """
    verb, _, argument = line.partition(b" ")
    # Upper-casing octets touches ASCII alone: no foreign letter turns into one of ours.
    known = _VERBS.get(verb.upper())
    if known is None:
        return _unknown(verb.upper(), forbidden)
    name, read = known
    try:
        text = argument.decode()
    except UnicodeDecodeError:
        return Bad(name, _NOT_TEXT)
    try:
        return read(text.rstrip(" \t"), utf8)
    except _Unfit as unfit:
        return Bad(name, unfit.reply)


def _unknown(verb: bytes, forbidden: Collection[str]) -> Bad:
    word = verb[:WORD_LIMIT].decode("ascii", "replace")
    if word in forbidden or _HEADER_LINE.match(verb):
        return Bad("", _NOT_MAIL)
    return Bad(word, _NOT_HERE) if word in NOT_OFFERED else Bad("", _UNKNOWN)


def _hello(extended: bool, text: str, _utf8: bool) -> Command:
    name = text.strip(" ")
    if not name or " " in name or len(name) > HELLO_LIMIT or not name.isascii() or not name.isprintable():
        raise _Unfit(_BAD_HELLO)
    return Hello(name, extended)


def _mail(text: str, _utf8: bool) -> Command:
    path = _path(text, "FROM:", _BAD_SENDER)
    mailbox = _MAILBOX.fullmatch(path)
    found = mailbox or _NULL.fullmatch(path)
    if found is None:
        raise _Unfit(_BAD_SENDER)
    parameters = found[found.re.groups]
    if not parameters:
        return Mail(_address(mailbox[1], mailbox[2], False, _BAD_SENDER) if mailbox else None)
    size, eight_bit, utf8, ret, envid, prdr = _mail_parameters(parameters)
    sender = _address(mailbox[1], mailbox[2], utf8, _BAD_SENDER) if mailbox else None
    return Mail(sender, size, eight_bit, utf8, ret, envid, prdr)


def _rcpt(text: str, utf8: bool) -> Command:
    path = _path(text, "TO:", _BAD_RECIPIENT)
    mailbox = _MAILBOX.fullmatch(path)
    if mailbox:
        address, parameters = _address(mailbox[1], mailbox[2], utf8, _BAD_RECIPIENT), mailbox[3]
    else:
        postmaster = _POSTMASTER.fullmatch(path)
        if postmaster is None:
            raise _Unfit(_BAD_RECIPIENT)
        address, parameters = Address("postmaster", ""), postmaster[1]
    if parameters:
        return Rcpt(address, *_rcpt_parameters(parameters, utf8))
    return Rcpt(address)


def _path(text: str, word: str, bad: Reply) -> str:
    """What follows ``FROM:`` or ``TO:``. Blanks after the colon are not grammar, but many well-meaning clients write
    them and they leave nothing in doubt."""
    if not text[: len(word)].isascii() or text[: len(word)].upper() != word:
        raise _Unfit(bad)
    return text[len(word) :].lstrip(" ")


def _address(local: str, domain: str, utf8: bool, bad: Reply) -> Address:
    if local[0] == '"':
        local = _shortest(local)
    if not local.isascii():
        if not utf8:
            raise _Unfit(_NEEDS_UTF8)
        if not local.isprintable():
            raise _Unfit(_BAD_UNICODE)
    if len(local.encode()) > LOCAL_LIMIT:
        raise _Unfit(bad)
    if domain[0] == "[":
        return Address(local, _literal(domain, bad))
    if not domain.isascii():
        if not utf8:
            raise _Unfit(_NEEDS_UTF8)
        domain = _a_labels(domain)
    if len(domain) > DOMAIN_LIMIT or not _HOST_NAME.fullmatch(domain):
        raise _Unfit(bad)
    return Address(local, domain.lower())


def _shortest(quoted: str) -> str:
    """A quoted string without its quotes where it needs none, else with no more backslashes than it needs."""
    content = _PAIR.sub(r"\1", quoted[1:-1])
    if _UNQUOTED.fullmatch(content):
        return content
    return '"' + _TO_QUOTE.sub(r"\\\1", content) + '"'


def _a_labels(domain: str) -> str:
    """RFC 5891 to the letter: nothing is mapped, so that no look-alike dot or letter becomes another."""
    # Lower-casing text would turn a Kelvin sign into a k; octets keep to ASCII.
    lower = domain.encode().lower().decode()
    try:
        return idna.encode(lower, strict=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise _Unfit(_BAD_UNICODE) from None


def _literal(domain: str, bad: Reply) -> str:
    """An address literal (RFC 5321 4.1.3) in its usual spelling."""
    inside = domain[1:-1]
    try:
        if domain[-1] != "]" or not inside.isascii():
            raise ValueError
        if inside[:5].upper() == "IPV6:":
            if "%" in inside:
                raise ValueError
            return f"[IPv6:{IPv6Address(inside[5:])}]"
        return f"[{IPv4Address(inside)}]"
    except ValueError:
        raise _Unfit(bad) from None


def _parameters(text: str) -> list[tuple[str, str | None]]:
    """Names in upper case, each with its value; refuses what is no parameter and what is said twice."""
    found: dict[str, str | None] = {}
    # Of all that Unicode calls blank, only these separate.
    for word in text.replace("\t", " ").split(" "):
        if not word:
            continue
        match = _PARAMETER.fullmatch(word)
        if match is None or match[1].upper() in found:
            raise _Unfit(_BAD_PARAMETER)
        found[match[1].upper()] = match[2]
    return list(found.items())


def _mail_parameters(text: str) -> tuple[int | None, bool, bool, str, str, bool]:
    size, eight_bit, utf8, ret, envid, prdr = None, False, False, "", "", False
    for name, value in _parameters(text):
        if name == "SIZE":
            if value is None or not _SIZE.fullmatch(value):
                raise _Unfit(_BAD_PARAMETER)
            size = int(value)
        elif name == "BODY":
            eight_bit = _word(value, "7BIT", "8BITMIME") == "8BITMIME"
        elif name == "SMTPUTF8":
            utf8 = _bare(value)
        elif name == "PRDR":
            prdr = _bare(value)
        elif name == "RET":
            ret = _word(value, "FULL", "HDRS")
        elif name == "ENVID":
            if value is None or len(value) > ENVID_LIMIT or not _ENVID.fullmatch(value):
                raise _Unfit(_BAD_PARAMETER)
            envid = value
        elif name == "AUTH":
            # Who is behind the message is for gateways that trust each other: taken for unknown (RFC 4954 5).
            if value is None or not (value == "<>" or _ENVID.fullmatch(value)):
                raise _Unfit(_BAD_PARAMETER)
        else:
            raise _Unfit(_UNKNOWN_PARAMETER)
    return size, eight_bit, utf8, ret, envid, prdr


def _bare(value: str | None) -> bool:
    if value is not None:
        raise _Unfit(_BAD_PARAMETER)
    return True


def _word(value: str | None, *known: str) -> str:
    """One of the known words, which may be said in any case."""
    # Octets are upper-cased as in verbs: no foreign letter turns into one of ours.
    word = (value or "").encode().upper().decode()
    if word not in known:
        raise _Unfit(_BAD_PARAMETER)
    return word


def _rcpt_parameters(text: str, utf8: bool) -> tuple[str, str]:
    notify = original = ""
    for name, value in _parameters(text):
        if name == "NOTIFY":
            words = (value or "").split(",")
            known = ("NEVER",) if len(words) == 1 else ()
            notify = ",".join(dict.fromkeys(_word(word, "SUCCESS", "FAILURE", "DELAY", *known) for word in words))
        elif name == "ORCPT":
            if value is None or len(value.encode()) > ORCPT_LIMIT or not _is_original(value, utf8):
                raise _Unfit(_BAD_PARAMETER)
            original = value
        else:
            raise _Unfit(_UNKNOWN_PARAMETER)
    return notify, original


def _is_original(text: str, utf8: bool) -> bool:
    """Whether it is the ORCPT of an address: of any type as xtext (RFC 3461 4.2), or of type utf-8 (RFC 6533 3)."""
    if _ORCPT.fullmatch(text):
        return True
    if not _ORCPT_UTF8.fullmatch(text) or not (utf8 or text.isascii()):
        return False
    points = [int(digits, 16) for digits in _NAMED.findall(text)]
    return text.isprintable() and all(point <= 0x10FFFF and chr(point).isprintable() for point in points)


def _alone(command: Command, text: str, _utf8: bool) -> Command:
    if text:
        raise _Unfit(_NO_ARGUMENT)
    return command


def _with_anything(command: Command, _text: str, _utf8: bool) -> Command:
    return command


def _vrfy(verb: str, text: str, _utf8: bool) -> Command:
    if not text:
        raise _Unfit(Reply(501, "5.5.4", f"{verb} needs a name"))
    return Vrfy(verb)


def _xclient(text: str, _utf8: bool) -> Command:
    return Xclient(text)


def _auth(text: str, _utf8: bool) -> Command:
    mechanism, blank, initial = text.partition(" ")
    if not _MECHANISM.fullmatch(mechanism) or (blank and not _INITIAL.fullmatch(initial)):
        return Auth("", None)
    return Auth(mechanism.upper(), initial if blank else None)


def _refused(reply: Reply, _text: str, _utf8: bool) -> Command:
    raise _Unfit(reply)


_VERBS: dict[bytes, tuple[str, Callable[[str, bool], Command]]] = {
    b"EHLO": ("EHLO", partial(_hello, True)),
    b"HELO": ("HELO", partial(_hello, False)),
    b"MAIL": ("MAIL", _mail),
    b"RCPT": ("RCPT", _rcpt),
    b"DATA": ("DATA", partial(_alone, Data())),
    b"RSET": ("RSET", partial(_alone, Rset())),
    b"NOOP": ("NOOP", partial(_with_anything, Noop())),
    b"VRFY": ("VRFY", partial(_vrfy, "VRFY")),
    b"EXPN": ("EXPN", partial(_vrfy, "EXPN")),
    b"HELP": ("HELP", partial(_with_anything, Help())),
    b"QUIT": ("QUIT", partial(_alone, Quit())),
    b"STARTTLS": ("STARTTLS", partial(_alone, StartTls())),
    b"XCLIENT": ("XCLIENT", _xclient),
    b"AUTH": ("AUTH", _auth),
    b"BDAT": ("BDAT", partial(_refused, _NO_CHUNKS)),
}
# Known, and never said by whoever has read our EHLO.
NOT_OFFERED = frozenset(("ETRN", "SAML", "SEND", "SOML", "TURN", "XFORWARD"))
OFFERED = frozenset(verb.decode() for verb in _VERBS)
