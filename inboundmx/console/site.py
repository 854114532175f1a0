"""From a question to an answer: the route, the name we were called by, the password.

Knows the order in which a question is refused. Does not know a socket, nor what an answer is made of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from inboundmx.console.access import FailedLogins, is_loopback, is_password, names_us
from inboundmx.console.answers import Answer, Question, sentence
from inboundmx.console.routes import ROUTES, Facts, Route
from inboundmx.model.settings import Settings
from inboundmx.ports import Clock, Journal

METHODS = ("GET", "HEAD")
_CHALLENGE = ("WWW-Authenticate", 'Basic realm="inboundmx", charset="UTF-8"')


class Site:
    """``settings`` are asked for with every question, so a reload changes all at once."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        facts: Facts,
        clock: Clock,
        journal: Journal,
        routes: Mapping[str, Route] = ROUTES,
    ) -> None:
        self._settings = settings
        self._facts = facts
        self._failed_logins = FailedLogins(clock)
        self._journal = journal
        self._routes = routes
        self._log = Logger()

    def prepare(self, question: Question) -> Deferred[None] | None:
        """Fires when ``answer`` can tell what is so now; None: it can. Never fails."""
        return self._facts.refresh() if question.path in self._routes else None

    def answer(self, question: Question) -> Answer:
        """Never raises: a fault of ours goes to the log, and out goes 500 without a word about it."""
        try:
            refused = self._refused(question)
            if refused is not None:
                return refused
            route = self._routes.get(question.path)
            if route is None:
                return sentence(404, "nothing is here")
            shut_out = None if route.open else self._shut_out(question)
            return shut_out or route.answer(self._facts)
        except Exception:  # noqa: BLE001 - whatever it was, it is not for who asks
            self._log.failure("the console cannot answer {path}", path=question.path)
            return sentence(500, "something went wrong here; the log has it")

    def _refused(self, question: Question) -> Answer | None:
        """Whatever was asked for."""
        gateway = self._settings().gateway
        hosts = question.hosts
        # HTTP/1.0 knows no Host field, and no browser speaks it.
        if len(hosts) > 1 or (not hosts and question.version != "HTTP/1.0"):
            return sentence(400, "one Host field is needed")
        names = {gateway.hostname, *gateway.hostnames.values()}
        if hosts and is_loopback(question.local) and not names_us(hosts[0], names):
            return sentence(400, "no such host here")
        if question.method not in METHODS:
            return sentence(405, "only GET and HEAD are understood", ("Allow", ", ".join(METHODS)))
        return None

    def _shut_out(self, question: Question) -> Answer | None:
        console = self._settings().console
        if not console.password:
            return sentence(403, "closed to everybody, because [console] password is not set")
        wait = self._failed_logins.wait(question.client)
        if wait:
            return sentence(429, "too many wrong passwords", ("Retry-After", str(math.ceil(wait))))
        if len(question.credentials) == 1 and is_password(question.credentials[0], console.username, console.password):
            return None
        if question.credentials:
            self._failed_logins.failed(question.client)
            self._journal.record("login_failed", "", {"at": "console", "peer_ip": question.client}, level="warning")
        return sentence(401, "the name and password of [console] are needed", _CHALLENGE)
