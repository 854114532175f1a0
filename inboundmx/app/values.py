"""The kinds of value that keys have: how the text of each is read, how it is written, what to say when it is wrong.

Knows words and lists, and where amounts, addresses, endpoints and actions are read; does not know which key is of which
kind (``model.settings`` says so), nor files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from ipaddress import IPv4Address, IPv4Network
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from inboundmx.app import actions, addresses
from inboundmx.app.amounts import (
    limit,
    number,
    plain,
    retry,
    size,
    span,
    weight,
    whole,
    written_retry,
    written_size,
    written_span,
)
from inboundmx.app.endpoint_strings import endpoint, endpoints, servers
from inboundmx.app.words import Wrong, nearest, not_there_yet
from inboundmx.checks.list_codes import Meaning
from inboundmx.model.verdict import written_weight
from inboundmx.net import recipient_ldap
from inboundmx.smtp.commands import OFFERED, WORD_LIMIT

LARGEST_COUNT = 1_000_000
MOST_WORKERS = 64
MOST_VERBS = 50

_OUTCOME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_FIELD = re.compile(r"[!-9;-~]{1,76}")
_CODES = IPv4Network("127.0.0.0/8")
_MASK = re.compile(r"(127\.[0-9]{1,3}\.[0-9]{1,3})\.&([0-9]{1,3})")
# What checks, outbound servers and archives are called.
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_VERB = re.compile(rf"[!-~]{{1,{WORD_LIMIT}}}")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*\$?")


class Kind(NamedTuple):
    """``read`` takes the text of a value and raises Wrong; ``write`` gives text that reads back as the same value;
    ``unit`` is how the reference names it."""

    read: Callable[[str], Any]
    write: Callable[[Any], str]
    unit: str


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


def pairs(text: str) -> Mapping[str, str]:
    """``ADDRESS=NAME``, blanks between."""
    found: dict[str, str] = {}
    for each in text.split():
        address, equals, name = each.partition("=")
        if not equals:
            raise Wrong(f"{each} is no pair; write ADDRESS=NAME")
        found[str(addresses.single(address))] = addresses.domain_name(name)
    return found


def codes(text: str) -> tuple[Meaning, ...]:
    """What the return codes of a list mean."""
    found = []
    for each in text.split():
        written, equals, meaning = each.partition("=")
        if not equals:
            raise Wrong(f"{each} is no pair; write it like 127.0.0.2=listed")
        if not _OUTCOME.fullmatch(meaning):
            raise Wrong(f"{meaning or 'nothing'} in {each} is no word: small letters, digits and _")
        if "&" in written:
            found.append(_bits(written, meaning))
            continue
        blocks = addresses.networks(written)
        first, last = blocks[0][0], blocks[-1][-1]
        if not (isinstance(first, IPv4Address) and isinstance(last, IPv4Address)) or not (
            first in _CODES and last in _CODES
        ):
            raise Wrong(f"{written} is no return code of a list: those are in 127.0.0.0/8")
        found.append(Meaning(first, last, meaning))
    return tuple(found)


def _bits(written: str, meaning: str) -> Meaning:
    """Of a list whose codes are sums: 127.0.0.&24 stands for those with 8 or 16 in it."""
    match = _MASK.fullmatch(written)
    try:
        first = IPv4Address(f"{match[1]}.0") if match is not None else None
    except ValueError:
        first = None
    if match is None or first is None or not 0 < int(match[2]) < 256:
        raise Wrong(f"{written} is no mask; write it like 127.0.0.&8, with 1 to 255 behind the &")
    return Meaning(first, first + 255, meaning, int(match[2]))


def written_codes(value: Iterable[Meaning]) -> str:
    return _list(f"{_code(each)}={each.word}" for each in value)


def _code(meaning: Meaning) -> str:
    first, last, _, bits = meaning
    if bits:
        return f"{str(first).removesuffix('0')}&{bits}"
    return str(first) if first == last else f"{first}-{last}"


def outcome(text: str) -> str:
    if not _OUTCOME.fullmatch(text):
        raise Wrong(f"{text or 'nothing'} is no word: small letters, digits and _")
    return text


def field_name(text: str) -> str:
    if text and not _FIELD.fullmatch(text):
        raise Wrong(f"{text} is no name of a header field (RFC 5322 2.2)")
    return text


def counts_for(text: str) -> frozenset[str]:
    words = text.split()
    if not words:
        raise Wrong("needs filtering, blocking, or filtering blocking")
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


def host_names(text: str) -> tuple[str, ...]:
    """As in a certificate: ``*.`` stands for one label (RFC 6125 6.4.3)."""
    found = (("*." * each.startswith("*."), each.removeprefix("*.")) for each in text.split())
    return tuple(dict.fromkeys(star + addresses.domain_name(name) for star, name in found))


def section_name(text: str) -> str:
    """The name of another section, or nothing."""
    if text and not NAME.fullmatch(text.lower()):
        raise Wrong(f"{text} is no name: letters, digits, - and _, at most 40")
    return text.lower()


def section_names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(section_name(each) for each in text.split()))


def maybe_yes(text: str) -> bool | None:
    return yes(text) if text else None


def written_yes(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"


def matches(text: str) -> tuple[str, ...]:
    """Patterns of addresses, and files with more of them, by ``file:``."""
    words = text.split()
    files = [each for each in words if each.startswith("file:")]
    if "file:" in files:
        raise Wrong("names no file; write file:/path")
    return (*addresses.senders(" ".join(each for each in words if each not in files)), *dict.fromkeys(files))


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


def verbs(text: str) -> tuple[str, ...]:
    """Words that end a session. Those of mail cannot."""
    found = tuple(dict.fromkeys(text.upper().split()))
    if len(found) > MOST_VERBS:
        raise Wrong(f"holds {len(found)} words; {MOST_VERBS} at most")
    for each in found:
        if not _VERB.fullmatch(each):
            raise Wrong(f"{each} is no word of a protocol: printable ASCII, at most {WORD_LIMIT}")
        if each in OFFERED:
            raise Wrong(f"{each} is a command of SMTP that we answer")
    return found


# --- what happens anyway, and what is not there yet ----------------------------------------------------------------


def workers(text: str) -> int:
    """``auto``: a second worker gains nothing where the cores are taken, so one core is left to all else."""
    if text == "auto":
        return max(1, min(MOST_WORKERS, len(os.sched_getaffinity(0)) - 1))
    if not (text.isascii() and text.isdigit() and int(text) <= MOST_WORKERS):
        raise Wrong(f"must be a number from 0 to {MOST_WORKERS}, or auto")
    return int(text)


def storage_url(text: str) -> str:
    if text.startswith(("postgresql:", "postgres:")):
        raise not_there_yet("a spool in PostgreSQL", "write sqlite")
    return word(text, ("sqlite",))


def relay(text: str) -> tuple[Any, ...]:
    if text == "nobody":
        return ()
    if not text:
        raise Wrong("is empty; write nobody, or addresses")
    words = text.split()
    named = [word for word in words if word != "whitelisted"]
    return (*(["whitelisted"] if len(named) < len(words) else []), *addresses.networks(" ".join(named)))


def recipients(text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(text.split()))
    if not found:
        raise Wrong("is empty; write any, or who knows the recipients")
    for each in found:
        if each.startswith("file:"):
            if not each.removeprefix("file:"):
                raise Wrong("names no file; write file:/path")
        elif "://" in each:
            _recipients_url(each)
        else:
            word(each, ("any", "learned", "callout"))
    if "any" in found and len(found) > 1:
        raise Wrong("any is everybody: nothing else is asked beside it")
    return found


def _recipients_url(text: str) -> None:
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError as error:
        raise Wrong(f"is no address: {error}") from None
    if url.scheme not in ("http", "https", "ldap", "ldaps"):
        raise Wrong("is no http://, https://, ldap:// or ldaps:// address")
    if not url.hostname or "@" in url.netloc:
        raise Wrong("needs a host, and no name or password: these stand in recipients_username and recipients_password")
    if url.scheme in ("ldap", "ldaps"):
        if not recipient_ldap.installed():
            raise Wrong(recipient_ldap.MISSING)
        try:
            recipient_ldap.search_of(text)
        except ValueError as error:
            raise Wrong(str(error)) from None
    if url.fragment or not text.isascii() or not text.isprintable():
        raise Wrong("holds what no such address holds")


def users_file(text: str) -> str:
    """The path that ``file:PATH`` names; nothing for an empty text."""
    path = one_line(text).removeprefix("file:")
    if text and (path == text or not path):
        raise Wrong("names no file; write file:/path")
    return path


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
    "number": Kind(number, plain, "number"),
    "weight": Kind(weight, written_weight, "number, reject, defer or quarantine"),
    "verbs": Kind(verbs, _list, "words, blanks between"),
    "yes": Kind(yes, written_yes, "yes or no"),
    "retry": Kind(retry, written_retry, "minutes, / between"),
    "actions": Kind(actions.actions, actions.written_actions, "actions, commas between"),
    "maybe_actions": Kind(
        lambda text: actions.actions(text) if text.strip() else (), actions.written_actions, "actions, commas between"
    ),
    "counts_for": Kind(
        counts_for, lambda value: _list(sorted(value, reverse=True)), "filtering, blocking, or filtering blocking"
    ),
    "regex": Kind(regex, str, "regular expression"),
    "prefixes": Kind(prefixes, lambda value: "/".join(map(str, value)), "bits of IPv4/bits of IPv6"),
    "dns_servers": Kind(addresses.name_servers, _list, "system, or addresses, blanks between"),
    "codes": Kind(codes, written_codes, "CODE=WORD, FIRST-LAST=WORD or 127.0.0.&BITS=WORD, blanks between"),
    "outcome": Kind(outcome, lambda value: value if isinstance(value, str) else "", "word"),
    "field_name": Kind(field_name, str, "name of a header field"),
    "storage_url": Kind(storage_url, str, "sqlite"),
    "relay": Kind(
        relay, lambda value: _list(value) or "nobody", "nobody, or whitelisted, addresses, a-b ranges, CIDR blocks"
    ),
    "senders": Kind(addresses.senders, _list, "addresses or domains, * for anything, blanks between"),
    "secret": Kind(str, str, "text, or file:/path"),
    "users_file": Kind(users_file, lambda value: f"file:{value}" if value else "", "file:/path"),
    "http_user": Kind(http_user, str, "text without :"),
    "section_name": Kind(section_name, str, "name"),
    "section_names": Kind(section_names, lambda value: _list(value or ()), "names, blanks between"),
    "matches": Kind(matches, _list, "addresses or domains, * for anything, file:/path, blanks between"),
    "maybe_yes": Kind(maybe_yes, written_yes, "yes or no"),
    "direction": Kind(
        lambda text: word(text, ("incoming", "outgoing", "both")) if text else "", str, "incoming, outgoing or both"
    ),
    "maybe_priority": Kind(
        lambda text: whole(text, 1, 10) if text else None, lambda value: "" if value is None else str(value), "1 to 10"
    ),
    "priorities": Kind(priority_range, lambda value: "-".join(map(str, value)), "LOWEST-HIGHEST within 1-10"),
    "source_addresses": Kind(source_addresses, _list, "addresses, blanks between"),
    "host_names": Kind(host_names, _list, "host names, *. for any label, blanks between"),
    "globs": Kind(lambda text: tuple(text.lower().split()), _list, "words or globs, blanks between"),
    "domain_names": Kind(domain_names, _list, "domains, blanks between"),
    "domain_or_all": Kind(lambda text: "*" if text == "*" else addresses.domain_name(text), str, "domain, or *"),
    "any_count": Kind(lambda text: whole(text, 0, LARGEST_COUNT), str, "whole number, 0 for no limit"),
    "any_size": Kind(any_size, lambda value: written_size(value) if value else "0", "size, 0 for no limit"),
    "status_url": Kind(status_url, str, "http://HOST:PORT or https://HOST:PORT"),
    "console_endpoints": Kind(lambda text: endpoints(text) if text else (), _list, "endpoints, blanks between"),
    "recipients": Kind(recipients, _list, "any, or learned callout file:PATH http(s)://… ldap(s)://…, blanks between"),
}


@cache
def kind(name: str) -> Kind:
    """The kind of this name, as in the metadata of ``model.settings``; ``word:a b`` is a choice of words."""
    if not name.startswith("word:"):
        return KINDS[name]
    choice = tuple(name.removeprefix("word:").split())
    return Kind(lambda text: word(text, choice), str, " or ".join((", ".join(choice[:-1]), choice[-1])))
