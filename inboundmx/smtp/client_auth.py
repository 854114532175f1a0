"""How a name and a password are proved to a server: PLAIN, LOGIN, CRAM-MD5 (RFC 4954, 4616, 2195).

Knows what is said in which order, and which of the server's words might give the password away. Does not know the
connection, nor whether it is encrypted well enough.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Generator, Mapping

from inboundmx.model.reply import Reply
from inboundmx.smtp.replies import harmless

# Over TLS the plainest: servers that keep passwords hashed cannot do CRAM-MD5. In the clear it comes first.
ENCRYPTED_ORDER = ("PLAIN", "LOGIN", "CRAM-MD5")
CLEAR_ORDER = ("CRAM-MD5", "PLAIN", "LOGIN")
# RFC 5321 4.5.3.1.4; a first response that would make AUTH longer is said when the server asks for it.
COMMAND_LIMIT = 510
# So many characters alike, of anything secret, are too many.
TELLING = 6

# What is said to each challenge. The first is said with the command; None: there is nothing to say yet.
Steps = Generator[bytes | None, str, None]


def mechanisms(extensions: Mapping[str, str], *, encrypted: bool) -> list[str]:
    """What the host offers and we know, the best first. Servers from before RFC 2554 write ``AUTH=LOGIN``."""
    offered = set(extensions.get("AUTH", "").upper().split())
    for keyword, parameters in extensions.items():
        if keyword.startswith("AUTH="):
            offered |= {keyword[5:], *parameters.upper().split()}
    return [mechanism for mechanism in (ENCRYPTED_ORDER if encrypted else CLEAR_ORDER) if mechanism in offered]


def _plain(username: str, password: str) -> Steps:
    yield f"\0{username}\0{password}".encode()


def _login(username: str, password: str) -> Steps:
    # What the prompts say is not looked at: nobody asks in another order.
    yield None
    yield username.encode()
    yield password.encode()


def _cram_md5(username: str, password: str) -> Steps:
    challenge = yield None
    digest = hmac.new(password.encode(), base64.b64decode(challenge, validate=True), "md5").hexdigest()
    yield f"{username} {digest}".encode()


_STEPS: Mapping[str, Callable[[str, str], Steps]] = {"PLAIN": _plain, "LOGIN": _login, "CRAM-MD5": _cram_md5}


class Exchange:
    """One mechanism at work. ``command`` begins it."""

    def __init__(self, mechanism: str, username: str, password: str) -> None:
        self._steps = _STEPS[mechanism](username, password)
        self._secrets = [password]
        self._unsaid = self._written(next(self._steps))
        self.command = f"AUTH {mechanism}"
        if self._unsaid and len(self.command) + 1 + len(self._unsaid) <= COMMAND_LIMIT:
            self.command = f"{self.command} {self._unsaid}"
            self._unsaid = ""

    def answer(self, challenge: str) -> str | None:
        """What is said to a 334, None when there is nothing more to say or the challenge makes no sense."""
        if self._unsaid:
            unsaid, self._unsaid = self._unsaid, ""
            return unsaid
        try:
            return self._written(self._steps.send(challenge))
        except (StopIteration, binascii.Error):
            return None

    def cut(self, reply: Reply) -> Reply:
        """The server's answer without its words where they hold anything of what was said to it in confidence."""
        text = reply.text.casefold()
        told = any(_shared(harmless(secret.encode()).casefold(), text) for secret in self._secrets)
        return Reply(reply.code, reply.enhanced, "(the server's words are left out)") if told else reply

    def _written(self, response: bytes | None) -> str:
        if response is None:
            return ""
        written = base64.b64encode(response).decode("ascii")
        self._secrets.append(written)
        return written


def _shared(secret: str, text: str) -> bool:
    run = min(TELLING, len(secret))
    return run > 0 and any(secret[at : at + run] in text for at in range(len(secret) - run + 1))
