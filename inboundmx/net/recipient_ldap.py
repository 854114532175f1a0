"""An LDAP server that knows the recipients (RFC 4511, 4516), asked by the library ldap3 in a thread.

Knows the parts of an LDAP URL and what the answer to a search says. Does not know what is done while the server is
silent. Without the library nothing here works, and says so by name.
"""

from __future__ import annotations

import contextlib
import importlib.util
import ssl
from collections import deque
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from twisted.internet.defer import Deferred

from inboundmx.model.address import Address
from inboundmx.net.recipient_questions import Questions
from inboundmx.net.servers import within
from inboundmx.ports import Clock, Health, Offload, Unavailable

MISSING = "the library for LDAP is not installed: pip install 'inboundmx[ldap]'"
PLACE = "{address}"
FILTER = f"(|(mail={PLACE})(proxyAddresses=smtp:{PLACE}))"
SCOPES = {"": "SUBTREE", "sub": "SUBTREE", "one": "LEVEL", "base": "BASE"}
# Whole ones: the library packs them as such.
CONNECT_SECONDS = 4
ANSWER_SECONDS = 4
# Before it is given up here; the thread has limits of its own, which are reached first.
QUESTION_SECONDS = 12.0
# Threads are few, and others need them.
AT_ONCE = 2
_SUCCESS, _SIZE_LIMIT = 0, 4


class Search(NamedTuple):
    """``filter`` holds PLACE."""

    host: str
    port: int
    secure: bool
    base: str
    scope: str
    filter: str


def search_of(url: str) -> Search:
    """Raises ValueError with what is wrong."""
    split = urlsplit(url)
    _, scope, filter, *more = (*split.query.split("?"), "", "", "")[:4]
    base, filter = unquote(split.path.removeprefix("/")), unquote(filter) or FILTER
    if scope.lower() not in SCOPES:
        raise ValueError(f"the scope of an LDAP search is sub, one or base, not {scope}")
    if not (filter.startswith("(") and filter.endswith(")")) or PLACE not in filter or any(more):
        raise ValueError(f"the filter of the LDAP search must stand in parentheses and hold {PLACE}")
    if not base:
        raise ValueError("an LDAP address names where to search: ldap://HOST/BASE")
    secure = split.scheme == "ldaps"
    port = split.port or (636 if secure else 389)
    return Search(split.hostname or "", port, secure, base, SCOPES[scope.lower()], filter)


def installed() -> bool:
    return importlib.util.find_spec("ldap3") is not None


class RecipientLdap:
    def __init__(self, url: str, username: str, password: str, clock: Clock, offload: Offload, health: Health) -> None:
        self._search = search_of(url)
        self._who = username, password
        self._clock = clock
        self._offload = offload
        # Connections that are open and idle; used by one thread at a time.
        self._idle: deque[Any] = deque(maxlen=AT_ONCE)
        name = f"recipients {urlsplit(url).scheme}://{urlsplit(url).netloc}"
        self._questions = Questions(name, self._asked, AT_ONCE, clock, health)

    async def holds(self, address: Address) -> bool:
        """Raises Unavailable."""
        return await self._questions.holds(str(address).lower())

    async def _asked(self, address: str) -> bool:
        asked: Deferred[bool] = self._offload.run(self._found, address)
        return await within(self._clock, asked, QUESTION_SECONDS, "does not answer in time")

    def _found(self, address: str) -> bool:
        """Blocks."""
        if not installed():
            raise Unavailable(MISSING)
        from ldap3.core.exceptions import LDAPException

        kept = self._idle.pop() if self._idle else None
        try:
            try:
                return self._searched(kept or self._connected(), address)
            except LDAPException:
                if kept is None:
                    raise
                # A kept connection may have ended meanwhile; a fresh one has the last word.
                return self._searched(self._connected(), address)
        except (LDAPException, OSError) as error:
            raise Unavailable(f"cannot be asked: {error or type(error).__name__}") from None

    def _searched(self, connection: Any, address: str) -> bool:
        from ldap3.utils.conv import escape_filter_chars

        search = self._search
        try:
            _, result, entries, _ = connection.search(
                search.base,
                search.filter.replace(PLACE, escape_filter_chars(address)),
                search_scope=search.scope,
                attributes=["1.1"],
                size_limit=1,
                time_limit=ANSWER_SECONDS,
            )
        except BaseException:
            with contextlib.suppress(Exception):
                connection.unbind()
            raise
        if result["result"] not in (_SUCCESS, _SIZE_LIMIT):
            with contextlib.suppress(Exception):
                connection.unbind()
            raise Unavailable(f"answers {result['description']}: {result['message'] or search.base}")
        self._idle.append(connection)
        return any(entry.get("type") == "searchResEntry" for entry in entries or ())

    def _connected(self) -> Any:
        import ldap3

        search, (username, password) = self._search, self._who
        tls = ldap3.Tls(validate=ssl.CERT_REQUIRED)
        server = ldap3.Server(
            search.host,
            search.port,
            use_ssl=search.secure,
            tls=tls,
            get_info=ldap3.NONE,
            connect_timeout=CONNECT_SECONDS,
        )
        # A password goes over the network encrypted or not at all.
        clear = search.secure or not username or _loopback(search.host)
        return ldap3.Connection(
            server,
            username or None,
            password or None,
            auto_bind=ldap3.AUTO_BIND_NO_TLS if clear else ldap3.AUTO_BIND_TLS_BEFORE_BIND,
            authentication=ldap3.SIMPLE if username else ldap3.ANONYMOUS,
            client_strategy=ldap3.SAFE_SYNC,
            auto_referrals=False,
            read_only=True,
            receive_timeout=ANSWER_SECONDS,
        )


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
