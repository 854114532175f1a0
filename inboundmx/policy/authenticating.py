"""Users, and how one shows that it is him: PLAIN (RFC 4616), LOGIN, SCRAM-SHA-256 (RFC 5802, 7677).

Knows what is kept of a password, and each step of an exchange. Does not know a file, a connection, nor how often
somebody may try. One thing is kept for all mechanisms: the keys of SCRAM, which are PBKDF2 of the password with a salt.
Whoever steals them cannot log in with them, and has to guess at the cost of that; a second, costlier hash for PLAIN
beside them would protect nothing, because the cheaper one of the two is guessed at.

Work on passwords takes 0.05 s of a processor: it belongs in a thread.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from scramp import ScramException, ScramMechanism

SCRAM = "SCRAM-SHA-256"
MECHANISMS = (SCRAM, "PLAIN", "LOGIN")
# RFC 7677 asks for 4096 at least; a client of SCRAM has to work through them too.
ITERATIONS = 100_000
FEWEST, MOST = 4096, 2_000_000
NAME_LIMIT = 254
PASSWORD_LIMIT = 1024
SALT_OCTETS = 16
_NAME = re.compile(r"[^\s:#][^\s:]*")
_KEYS = re.compile(r"SCRAM-SHA-256\$([0-9]{1,7}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]{44}):([A-Za-z0-9+/=]{44})")
_mechanism = ScramMechanism(SCRAM)


class Keys(NamedTuple):
    """What is kept of a password (RFC 5802 3)."""

    iterations: int
    salt: bytes
    stored: bytes
    server: bytes

    def __str__(self) -> str:
        """As RFC 5803 and PostgreSQL write it."""
        salt, stored, server = (b64encode(each).decode() for each in self[1:])
        return f"{SCRAM}${self.iterations}:{salt}${stored}:{server}"


def made(password: str, salt: bytes, iterations: int = ITERATIONS) -> Keys:
    """Slow. Raises ValueError for what can be no password."""
    if not password or len(password) > PASSWORD_LIMIT:
        raise ValueError(f"a password has 1 to {PASSWORD_LIMIT} characters")
    try:
        _, stored, server, _ = _mechanism.make_auth_info(password, iterations, salt)
    except ScramException as error:
        raise ValueError(f"that can be no password: {error}") from None
    return Keys(iterations, salt, stored, server)


def fit_name(name: str) -> bool:
    return len(name) <= NAME_LIMIT and name.isprintable() and _NAME.fullmatch(name) is not None


class Users:
    """Those of one file, by name. ``secret`` makes what is told of names that nobody has, always the same."""

    def __init__(self, keys: Mapping[str, Keys], secret: bytes = b"") -> None:
        self.keys = keys
        self._secret = secret

    def of(self, name: str) -> Keys:
        """The keys of a user; of nobody, some that no password has, so that both are told and weighed the same."""
        found = self.keys.get(name)
        if found is not None:
            return found
        salt, stored, server = (
            hmac.digest(self._secret, f"{what} {name}".encode(), "sha256") for what in ("salt", "stored", "server")
        )
        return Keys(ITERATIONS, salt[:SALT_OCTETS], stored, server)

    def verify(self, name: str, password: str) -> bool:
        """Slow, and as slow for a name that nobody has."""
        keys = self.of(name)
        try:
            stored = made(password, keys.salt, keys.iterations).stored
        except ValueError:
            return False
        return hmac.compare_digest(stored, keys.stored) and name in self.keys


def read(text: str) -> Users:
    """A file of users: ``name:keys`` a line; empty lines and those that begin with # are not looked at. Raises
    ValueError, with the number of the line, and never a key."""
    found: dict[str, Keys] = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, _, written = line.partition(":")
        match = _KEYS.fullmatch(written)
        if not fit_name(name) or match is None or name in found:
            raise ValueError(f"line {number} is no user with his keys, or names one again")
        try:
            salt, stored, server = (b64decode(each, validate=True) for each in match.group(2, 3, 4))
        except ValueError:
            raise ValueError(f"line {number} holds keys that cannot be read") from None
        if not FEWEST <= int(match[1]) <= MOST or len(stored) != 32 or len(server) != 32:
            raise ValueError(f"line {number} holds keys that cannot be used")
        found[name] = Keys(int(match[1]), salt, stored, server)
    return Users(found, hashlib.sha256(text.encode()).digest())


def written(keys: Mapping[str, Keys]) -> str:
    return "".join(f"{name}:{each}\n" for name, each in sorted(keys.items()))


# --- exchanges --------------------------------------------------------------------------------------------------------


class Malformed(Exception):
    """What the client said is no step of its mechanism. It says nothing of a password."""


class Step(NamedTuple):
    """``challenge`` is to be answered; without one the exchange is over, and ``proved`` says how it ended. ``name``:
    who the client says it is, as far as it has said."""

    challenge: bytes | None
    name: str
    proved: bool = False


class Exchange(Protocol):
    def step(self, said: bytes | None, users: Users) -> Step:
        """``said``: the client's next response, None where it began without one. Slow. Raises Malformed."""


class Plain:
    def step(self, said: bytes | None, users: Users) -> Step:
        if said is None:
            return Step(b"", "")
        parts = said.split(b"\0")
        if len(parts) != 3:
            raise Malformed
        actor, name, password = map(_text, parts)
        # To act for somebody else is nobody's right here (RFC 4616 2).
        return Step(None, name, users.verify(name, password) and actor in ("", name))


class Login:
    def __init__(self) -> None:
        self._name: str | None = None

    def step(self, said: bytes | None, users: Users) -> Step:
        if said is None:
            return Step(b"Username:", "")
        if self._name is None:
            self._name = _text(said)
            return Step(b"Password:", self._name)
        return Step(None, self._name, users.verify(self._name, _text(said)))


class Scram:
    def __init__(self) -> None:
        self._users = Users({})
        self._name = ""
        self._server = _mechanism.make_server(self._keys)
        self._steps = 0
        self._proved = False

    def _keys(self, name: str) -> tuple[bytes, bytes, bytes, int]:
        self._name = name
        keys = self._users.of(name)
        return keys.salt, keys.stored, keys.server, keys.iterations

    def step(self, said: bytes | None, users: Users) -> Step:
        if said is None:
            return Step(b"", "")
        self._users = users
        self._steps += 1
        text = _text(said)
        if self._steps == 3:
            # The client has heard that we know its key as well, and agrees with an empty line (RFC 4954 4).
            if text:
                raise Malformed
            return Step(None, self._name, self._proved)
        try:
            if self._steps == 1:
                self._server.set_client_first(text)
                return Step(self._server.get_server_first().encode(), self._name)
            self._server.set_client_final(text)
            final = self._server.get_server_final()
        except ScramException as error:
            if getattr(error.server_error, "value", "") == "invalid-proof":
                return Step(None, self._name)
            raise Malformed from None
        except Exception:  # noqa: BLE001 - the library trips over some of what a stranger may say
            raise Malformed from None
        self._proved = self._name in users.keys
        return Step(final.encode(), self._name)


def exchange(mechanism: str) -> Exchange:
    """A new one; ``mechanism`` is one of MECHANISMS."""
    kinds: Mapping[str, type[Plain] | type[Login] | type[Scram]] = {"PLAIN": Plain, "LOGIN": Login, SCRAM: Scram}
    return kinds[mechanism]()


def _text(said: bytes) -> str:
    try:
        text = said.decode()
    except UnicodeDecodeError:
        raise Malformed from None
    if len(text) > 2 * PASSWORD_LIMIT or "\0" in text:
        raise Malformed
    return text
