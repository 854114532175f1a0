"""The text of every kind of value: how it is read, how it is written, what to say when it is wrong.

Knows spans, sizes, words and lists; does not know which key is of which kind (``model.settings`` says so), nor files.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from ipaddress import IPv4Address, IPv4Network
from typing import Any, NamedTuple

from twisted.internet.endpoints import clientFromString, serverFromString

from inboundmx.app import actions, addresses
from inboundmx.app.words import Wrong, nearest, not_there_yet
from inboundmx.model.settings import Retry
from inboundmx.model.verdict import Weight, written_weight

SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
OCTETS = {"GB": 2**30, "MB": 2**20, "KB": 2**10, "B": 1}
LONGEST_SPAN = 3650 * 86400.0
LARGEST_COUNT = 1_000_000
LONGEST_RETRY = 200
MOST_WORKERS = 64
ENDPOINTS = ("tcp", "tcp6", "ssl", "unix", "systemd", "haproxy")

_SPAN = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)([a-z]*)", re.ASCII)
_SIZE = re.compile(r"(\d{1,18}) ?([a-z]*)", re.ASCII | re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(\d{1,12}(\.\d{0,6})?|\.\d{1,6})", re.ASCII)
_MINUTES = re.compile(r"\d{1,7}(?:\.\d{1,4})?", re.ASCII)
_OUTCOME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_CODES = IPv4Network("127.0.0.0/8")
# What checks, outbound servers and archives are called.
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*\$?")


class Kind(NamedTuple):
    """``read`` takes the text of a value and raises Wrong; ``write`` gives text that reads back as the same value;
    ``unit`` is how the reference names it."""

    read: Callable[[str], Any]
    write: Callable[[Any], str]
    unit: str


def span(text: str) -> float:
    """``90s 15m 24h 36d`` as seconds."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise Wrong("is no span; write it like 90s, 15m, 24h or 36d")
    number, unit = match.groups()
    if not unit:
        raise Wrong(f"a bare number has no unit; write {number}m or {number}s")
    if unit not in SECONDS:
        raise Wrong(f"{unit} is no unit of time{nearest(unit, SECONDS)}")
    seconds = float(number) * SECONDS[unit]
    if seconds > LONGEST_SPAN:
        raise Wrong("is longer than 3650d")
    return round(seconds, 6)


def written_span(seconds: float) -> str:
    for unit, length in SECONDS.items():
        if seconds and seconds % length == 0:
            return f"{int(seconds // length)}{unit}"
    return f"{_plain(seconds)}s"


def limit(text: str) -> float:
    """A span that ends a wait: more than nothing."""
    seconds = span(text)
    if seconds <= 0:
        raise Wrong("must be more than 0s")
    return seconds


def size(text: str) -> int:
    """``30MB 256KB`` as octets."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise Wrong("is no size; write it like 30MB or 256KB")
    number, unit = match[1], match[2].upper()
    if not unit:
        raise Wrong(f"a bare number has no unit; write {number}MB or {number}KB")
    if unit not in OCTETS:
        raise Wrong(f"{match[2]} is no unit of size{nearest(unit, OCTETS)}")
    octets = int(number) * OCTETS[unit]
    if not 0 < octets <= 2**50:
        raise Wrong("must be more than nothing and at most 1048576GB")
    return octets


def written_size(octets: int) -> str:
    unit, factor = next((unit, factor) for unit, factor in OCTETS.items() if octets % factor == 0)
    return f"{octets // factor}{unit}"


def whole(text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
        raise Wrong(f"must be a whole number from {low} to {high}")
    return int(text)


def number(text: str) -> float:
    """A finite number."""
    if not _NUMBER.fullmatch(text):
        raise Wrong("is no number; write it like 15 or 2.5")
    return float(text)


def _plain(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError(f"{value} cannot be written")
    return f"{value:.6f}".rstrip("0").rstrip(".")


def weight(text: str) -> Weight:
    """A finite number, ``reject`` or ``defer``."""
    if text == "reject":
        return "reject"
    if text == "defer":
        return "defer"
    if not _NUMBER.fullmatch(text):
        near = nearest(text, ("reject", "defer"))
        raise Wrong(f"is no weight{near if 'mean' in near else ''}; write a number, reject or defer")
    return float(text)


def yes(text: str) -> bool:
    if text.lower() in ("yes", "on", "true"):
        return True
    if text.lower() in ("no", "off", "false"):
        return False
    raise Wrong("is neither yes nor no (on, off, true, false)")


def word(text: str, choice: tuple[str, ...]) -> str:
    if text not in choice:
        raise Wrong(f"{text or 'nothing'} is not known here{nearest(text, choice)}")
    return text


def retry(text: str) -> Retry:
    """``10/10/10/1440``: minutes between attempts, a last ``*`` repeating."""
    repeat = text.endswith("*")
    parts = [part.strip() for part in text.removesuffix("*").split("/")]
    if len(parts) > LONGEST_RETRY:
        raise Wrong(f"has {len(parts)} waits; at most {LONGEST_RETRY}, and a last * repeats")
    waits = []
    for part in parts:
        if part.endswith("*"):
            raise Wrong("only the last wait may have a *")
        if not _MINUTES.fullmatch(part):
            unit = "; minutes are written without a unit" if _SPAN.fullmatch(part) else ""
            raise Wrong(f"{part or 'nothing'} is no number of minutes{unit}; write it like 10/10/10/1440 or 15/30*")
        seconds = round(float(part) * 60, 3)
        if not 0 < seconds <= LONGEST_SPAN:
            raise Wrong(f"{part} minutes between attempts: must be more than 0 and at most 3650 days")
        waits.append(seconds)
    return Retry(tuple(waits), repeat)


def written_retry(value: Retry) -> str:
    return "/".join(_plain(seconds / 60) for seconds in value.waits) + ("*" if value.repeat_last else "")


def endpoints(text: str) -> tuple[str, ...]:
    found = tuple(text.split())
    if not found:
        raise Wrong("needs at least one endpoint, such as tcp:25")
    for each in found:
        endpoint(each)
    if len(set(found)) < len(found):
        raise Wrong("an endpoint stands there twice")
    return found


def endpoint(text: str) -> str:
    """A Twisted server endpoint string; nothing is bound. The text itself is kept."""
    kind, _, rest = text.partition(":")
    if not rest:
        raise Wrong(f"{text} is no endpoint; write it like {f'tcp:{text}' if text.isdigit() else 'tcp:25'}")
    if kind not in ENDPOINTS:
        raise Wrong(f"{kind} is no kind of endpoint{nearest(kind, ENDPOINTS)}")
    try:
        # ssl without a key of its own takes the certificate of [tls]. No reactor is asked before listen().
        parsed = f"tcp:{rest}" if kind == "ssl" and "privateKey=" not in rest else text
        made = serverFromString(None, parsed)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise Wrong(f"{text} names a file that cannot be read: {error.strerror or error}") from None
    except Exception as error:  # noqa: BLE001 - Twisted's parsers and its plugins raise whatever int() and ** do
        if kind == "systemd" and isinstance(error, LookupError):
            return text  # the descriptor it speaks of is there only when systemd starts us
        raise Wrong(f"{text} is no endpoint of Twisted's: {_plainly(error)}") from None
    # How Twisted keeps the port is its own business: asked for only where it is there.
    port = getattr(getattr(made, "_wrappedEndpoint", made), "_port", 0)
    if isinstance(port, int) and not 0 <= port < 65536:
        raise Wrong(f"{port} in {text} is no port; 1 to 65535")
    return text


def servers(text: str) -> tuple[str, ...]:
    """Services to ask, as Twisted client endpoint strings; a bare path and ``HOST:PORT`` are made into such."""
    found = tuple(map(_server, text.split()))
    if not found:
        raise Wrong("needs at least one server, such as unix:/run/clamav/clamd.ctl or tcp:127.0.0.1:783")
    if len(set(found)) < len(found):
        raise Wrong("a server stands there twice")
    return found


def _server(text: str) -> str:
    kind, _, rest = text.partition(":")
    if text.startswith("/"):
        text = f"unix:{text}"
    elif kind not in ("unix", "tcp"):
        host, _, port = text.rpartition(":")
        if not host or not port.isdigit():
            raise Wrong(f"{text} is no server; write it like unix:/run/clamav/clamd.ctl or tcp:127.0.0.1:783")
        text = "tcp:{}:{}".format(host.strip("[]").replace(":", "\\:"), port)
    elif not rest:
        raise Wrong(f"{text} names no {'path' if kind == 'unix' else 'host and port'}")
    try:
        made = clientFromString(None, text)  # type: ignore[no-untyped-call]
    except Exception as error:  # noqa: BLE001 - Twisted's parsers raise whatever int() and ** do
        raise Wrong(f"{text} is no endpoint of Twisted's: {_plainly(error)}") from None
    if not 0 < getattr(made, "_port", 1) < 65536:
        raise Wrong(f"{text} has no port from 1 to 65535")
    return text


def _plainly(error: Exception) -> str:
    """What Python says of a wrong call, as an operator would."""
    said = str(error)
    if found := re.search(r"unexpected keyword argument '(.+)'", said):
        return f"{found[1]} is not one of its options"
    if found := re.search(r"invalid literal for int\(\) .*: '(.*)'", said):
        return f"{found[1] or 'nothing'} is no number"
    return said


def pairs(text: str) -> Mapping[str, str]:
    """``ADDRESS=NAME``, blanks between."""
    found: dict[str, str] = {}
    for each in text.split():
        address, equals, name = each.partition("=")
        if not equals:
            raise Wrong(f"{each} is no pair; write ADDRESS=NAME")
        found[str(addresses.single(address))] = addresses.domain_name(name)
    return found


def codes(text: str) -> tuple[tuple[Any, Any, str], ...]:
    """What the return codes of a list mean: first and last code, and the word for it."""
    found = []
    for each in text.split():
        written, equals, meaning = each.partition("=")
        if not equals:
            raise Wrong(f"{each} is no pair; write it like 127.0.0.2=listed")
        if not _OUTCOME.fullmatch(meaning):
            raise Wrong(f"{meaning or 'nothing'} in {each} is no word: small letters, digits and _")
        blocks = addresses.networks(written)
        first, last = blocks[0][0], blocks[-1][-1]
        for code in (first, last):
            if not isinstance(code, IPv4Address) or code not in _CODES:
                raise Wrong(f"{written} is no return code of a list: those are in 127.0.0.0/8")
        found.append((first, last, meaning))
    return tuple(found)


def written_codes(value: Iterable[tuple[Any, Any, str]]) -> str:
    return _list(f"{first}={word}" if first == last else f"{first}-{last}={word}" for first, last, word in value)


def counts_for(text: str) -> frozenset[str]:
    words = text.split()
    if not words:
        raise Wrong("needs filtering, blocking or both")
    return frozenset(word(each, ("filtering", "blocking")) for each in words)


def regex(text: str) -> str:
    """A pattern that compiles; the text itself is kept."""
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise Wrong(f"is no regular expression: {error}") from None
    return text


def prefixes(text: str) -> tuple[int, int]:
    """``24/64``: how many leading bits of an IPv4 and of an IPv6 address name a network."""
    bits, slash, bits6 = text.partition("/")
    if not slash:
        raise Wrong("needs bits of IPv4 and of IPv6; write it like 24/64")
    return whole(bits, 8, 32), whole(bits6, 16, 128)


def priority_range(text: str) -> tuple[int, int]:
    """``1-10``: the lowest and the highest priority; one number is both."""
    low, dash, high = text.partition("-")
    first = whole(low.strip(), 1, 10)
    last = whole(high.strip(), 1, 10) if dash else first
    if first > last:
        raise Wrong(f"{text} is no range; the lower priority stands first")
    return first, last


def source_addresses(text: str) -> tuple[str, ...]:
    found = tuple(str(addresses.single(each)) for each in text.split())
    if len(set(found)) < len(found):
        raise Wrong("an address stands there twice")
    return found


def domain_names(text: str) -> tuple[str, ...]:
    return tuple(addresses.domain_name(each) for each in text.split())


def section_name(text: str) -> str:
    """The name of another section, or nothing."""
    if text and not NAME.fullmatch(text.lower()):
        raise Wrong(f"{text} is no name: letters, digits, - and _, at most 40")
    return text.lower()


def http_user(text: str) -> str:
    if ":" in text:
        raise Wrong("a name for HTTP holds no : (RFC 7617 2)")
    return one_line(text)


def status_url(text: str) -> str:
    # A password has a key of its own, which is never shown; an address is.
    if text and not re.fullmatch(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?/?", text, re.ASCII):
        raise Wrong("is no address of a console; write it like http://192.0.2.20:9998")
    return text.rstrip("/")


def any_size(text: str) -> int:
    return 0 if text == "0" else size(text)


def user(text: str) -> str:
    if text and not _USER.fullmatch(text):
        raise Wrong(f"{text} is no user name")
    return text


def one_line(text: str) -> str:
    if "\n" in text:
        raise Wrong("must stand on one line")
    return text


# --- what happens anyway, and what is not there yet ----------------------------------------------------------------


def workers(text: str) -> int:
    """``auto``: a second worker gains nothing where the cores are taken, so one core is left to all else."""
    if text == "auto":
        return max(1, min(MOST_WORKERS, len(os.sched_getaffinity(0)) - 1))
    if not (text.isascii() and text.isdigit() and int(text) <= MOST_WORKERS):
        raise Wrong(f"must be a number from 0 to {MOST_WORKERS}, or auto")
    return int(text)


def greylist_key(text: str) -> str:
    if text == "domain":
        raise not_there_yet("greylisting by the client's domain", "write network")
    return word(text, ("network",))


def storage_url(text: str) -> str:
    if text.startswith(("postgresql:", "postgres:")):
        raise not_there_yet("a spool in PostgreSQL", "write sqlite")
    return word(text, ("sqlite",))


def relay(text: str) -> tuple[Any, ...]:
    if text == "whitelisted":
        raise not_there_yet("relaying for whitelisted addresses", "write the addresses, or nobody")
    if text == "nobody":
        return ()
    if not text:
        raise Wrong("is empty; write nobody, or addresses")
    return addresses.networks(text)


def recipients(text: str) -> str:
    for each in text.split():
        if each in ("callout", "learned") or each.startswith(("file:", "http://", "https://")):
            raise not_there_yet(f"{each} as a source of recipients", "write any")
    return word(text, ("any",))


# --- the table --------------------------------------------------------------------------------------------------------


def _list(values: Iterable[Any]) -> str:
    return " ".join(str(value) for value in values)


KINDS: Mapping[str, Kind] = {
    "text": Kind(one_line, str, "text"),
    "path": Kind(one_line, str, "path, relative to this file's folder"),
    "log_file": Kind(one_line, str, "stdout or a path, relative to this file's folder"),
    "paths": Kind(lambda text: tuple(text.split()), _list, "paths, * for any name, relative to this file's folder"),
    "user": Kind(user, str, "user name"),
    "hostname": Kind(lambda text: addresses.domain_name(text) if text else "", str, "host name"),
    "mailbox": Kind(lambda text: addresses.mailbox(text) if text else "", str, "mail address"),
    "endpoint": Kind(endpoint, str, "endpoint"),
    "endpoints": Kind(endpoints, _list, "endpoints, blanks between"),
    "servers": Kind(servers, _list, "unix:PATH or tcp:HOST:PORT, blanks between"),
    "workers": Kind(workers, str, f"0 to {MOST_WORKERS}, or auto"),
    "pairs": Kind(pairs, lambda value: _list(map("=".join, value.items())), "ADDRESS=NAME, blanks between"),
    "addresses": Kind(addresses.addresses, _list, "addresses, a-b ranges, CIDR blocks"),
    "networks": Kind(addresses.networks, _list, "addresses, a-b ranges, CIDR blocks"),
    "hosts": Kind(addresses.hosts, lambda value: _list(map(addresses.written_host, value)), "hosts, blanks between"),
    "span": Kind(span, written_span, "span"),
    "limit": Kind(limit, written_span, "span, more than 0s"),
    "size": Kind(size, written_size, "size"),
    "count": Kind(lambda text: whole(text, 1, LARGEST_COUNT), str, "whole number from 1"),
    "priority": Kind(lambda text: whole(text, 1, 10), str, "1 to 10"),
    "number": Kind(number, _plain, "number"),
    "weight": Kind(weight, written_weight, "number, reject or defer"),
    "yes": Kind(yes, lambda value: "yes" if value else "no", "yes or no"),
    "retry": Kind(retry, written_retry, "minutes, / between"),
    "actions": Kind(actions.actions, actions.written_actions, "actions, commas between"),
    "counts_for": Kind(counts_for, lambda value: _list(sorted(value, reverse=True)), "filtering, blocking or both"),
    "regex": Kind(regex, str, "regular expression"),
    "greylist_key": Kind(greylist_key, str, "network"),
    "prefixes": Kind(prefixes, lambda value: "/".join(map(str, value)), "bits of IPv4/bits of IPv6"),
    "dns_servers": Kind(addresses.name_servers, _list, "system, or addresses, blanks between"),
    "codes": Kind(codes, written_codes, "CODE=WORD or FIRST-LAST=WORD, blanks between"),
    "storage_url": Kind(storage_url, str, "sqlite"),
    "relay": Kind(relay, lambda value: _list(value) or "nobody", "nobody, or addresses, a-b ranges, CIDR blocks"),
    "secret": Kind(str, str, "text, or file:/path"),
    "http_user": Kind(http_user, str, "text without :"),
    "section_name": Kind(section_name, str, "name"),
    "maybe_priority": Kind(
        lambda text: whole(text, 1, 10) if text else None, lambda value: "" if value is None else str(value), "1 to 10"
    ),
    "priorities": Kind(priority_range, lambda value: "-".join(map(str, value)), "LOWEST-HIGHEST within 1-10"),
    "source_addresses": Kind(source_addresses, _list, "addresses, blanks between"),
    "domain_names": Kind(domain_names, _list, "domains, blanks between"),
    "domain_or_all": Kind(lambda text: "*" if text == "*" else addresses.domain_name(text), str, "domain, or *"),
    "any_count": Kind(lambda text: whole(text, 0, LARGEST_COUNT), str, "whole number, 0 for no limit"),
    "any_size": Kind(any_size, lambda value: written_size(value) if value else "0", "size, 0 for no limit"),
    "status_url": Kind(status_url, str, "http://HOST:PORT or https://HOST:PORT"),
    "console_endpoints": Kind(lambda text: endpoints(text) if text else (), _list, "endpoints, blanks between"),
    "recipients": Kind(recipients, str, "any"),
}


@cache
def kind(name: str) -> Kind:
    """The kind of this name, as in the metadata of ``model.settings``; ``word:a b`` is a choice of words."""
    if not name.startswith("word:"):
        return KINDS[name]
    choice = tuple(name.removeprefix("word:").split())
    return Kind(lambda text: word(text, choice), str, " or ".join((", ".join(choice[:-1]), choice[-1])))
