"""Which hosts a link leads to, as browsers read it (the URL standard of WHATWG) and not as RFC 3986 has it written.

Knows backslashes, names and passwords before the host, octets in percent, odd numbers for addresses, domains of all
scripts, and links within the parameters of links. Does not know who asks. Never raises, and looks at a bounded length.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

import idna

from inboundmx.checks.organization import load
from inboundmx.checks.reverse import host_name
from inboundmx.model.ip import IP

# Letters of a link that are looked at, and of a host; links within links, one in another.
LINK_LIMIT, HOST_LIMIT = 2000, 255
DEPTH, WITHIN = 3, 5

_SCHEME = re.compile(r"(?:https?|ftp):[/\\]*+", re.IGNORECASE)
_AUTHORITY = re.compile(r"[^/\\?#]*+")
_PORT = re.compile(r":[0-9]*+$")
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_IGNORED = re.compile(r"[\x00-\x20\x7f]")
# What begins a link within a link, encoded or not.
_INNER = re.compile(r"(?:https?|ftp):[/\\]{1,3}|(?<![\w.-])www\.", re.IGNORECASE)
_NUMBER = re.compile(r"(?:0x([0-9a-f]{0,16})|0([0-7]{0,16})|([1-9][0-9]{0,16}))")
_DOTS = re.compile("[\u3002\uff0e\uff61]")
# A text that is nothing but the name of a host, with what may follow one.
_NAMED = re.compile(r"([\w-]{1,63}(?:\.[\w-]{1,63}){1,10})\.?(?::[0-9]{1,5})?(?:[/?#]\S*)?")
_WRITTEN = re.compile(r"(?:(?:https?|ftp):[/\\]{1,3}|(?<![\w@.-])www[0-9]{0,3}\.)[^\s<>\"']+", re.IGNORECASE)

Host = str | IP


def hosts(link: str) -> tuple[Host, ...]:
    """Names as A-labels in lower case, or addresses; the one the link leads to, then those of links within it. Nothing
    for what is no link into the web, such as ``mailto:``."""
    return tuple(dict.fromkeys(_hosts(link[:LINK_LIMIT], DEPTH)))


def host_shown(text: str) -> Host | None:
    """The host that a reader takes a link for by the text it is shown by; None: it says nothing of the kind."""
    written = _WRITTEN.search(text)
    if written is not None:
        return _host_of(written[0])
    named = _NAMED.fullmatch(text.strip())
    # "readme.md" may be a domain, "report.pdf" is none.
    if named is None or load().publicsuffix(named[1].lower(), accept_unknown=False) is None:
        return None
    return _host_of(f"http://{named[1]}")


def _hosts(link: str, depth: int) -> Iterator[Host]:
    host = _host_of(link)
    if host is not None:
        yield host
    if not depth:
        return
    scheme = _SCHEME.match(link.strip())
    rest = _unquoted(link.strip()[scheme.end() if scheme else 0 :])
    for number, inner in enumerate(_INNER.finditer(rest)):
        if number == WITHIN:
            break
        if inner.start() or scheme is None:
            yield from _hosts(rest[inner.start() :].partition("&")[0], depth - 1 if number == 0 else 0)


def _host_of(link: str) -> Host | None:
    link = _IGNORED.sub("", link)
    scheme = _SCHEME.match(link)
    if scheme is not None:
        start = scheme.end()
    elif link.startswith(("//", "\\\\")):
        start = 2
    elif link[:3].lower() == "www":
        start = 0
    else:
        return None
    authority = _AUTHORITY.match(link, start)
    assert authority is not None
    return _parsed(_PORT.sub("", authority[0].rpartition("@")[2]))


@lru_cache(maxsize=4096)
def _parsed(written: str) -> Host | None:
    if written.startswith("["):
        try:
            six = IPv6Address(written.strip("[]").partition("%")[0])
        except ValueError:
            return None
        return six.ipv4_mapped or six
    name = _DOTS.sub(".", _unquoted(written)).lower()
    if len(name) > HOST_LIMIT:
        return None
    if not name.isascii():
        name = _a_labels(name)
    name = name.strip(".")
    last = name.rpartition(".")[2]
    if _NUMBER.fullmatch(last):
        return _address(name.split("."))
    return name if host_name(name) else None


def _unquoted(text: str) -> str:
    if "%" not in text:
        return text
    octets = _PERCENT.sub(lambda found: bytes([int(found[1], 16)]), text.encode("utf-8", "replace"))
    return octets.decode("utf-8", "replace")


def _a_labels(name: str) -> str:
    try:
        return idna.encode(name, uts46=True, transitional=False).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        # Such as pictures of hearts: browsers go there all the same.
        labels = unicodedata.normalize("NFKC", name).lower().split(".")
        return ".".join(
            label if label.isascii() else "xn--" + label.encode("punycode", "replace").decode("ascii")
            for label in labels
        )


def _address(parts: list[str]) -> IPv4Address | None:
    """One to four numbers, decimal, octal or hexadecimal; the last one fills what is left."""
    values = []
    for part in parts:
        number = _NUMBER.fullmatch(part)
        if number is None:
            return None
        sixteen, eight, ten = number.groups()
        values.append(int(ten) if ten else int(sixteen or "0", 16) if sixteen is not None else int(eight or "0", 8))
    if len(values) > 4 or any(value > 255 for value in values[:-1]) or values[-1] >= 256 ** (5 - len(values)):
        return None
    return IPv4Address(sum(value << 8 * (3 - place) for place, value in enumerate(values[:-1])) + values[-1])
