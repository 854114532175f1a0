"""The gateway as a process: from an INI file to a running reactor and an exit status.

Knows what stops a start (exit status 2), how an operator is told, and that a gateway with workers is supervised. Does
not know what the service is made of.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from inboundmx.app.checking import problems_at_start
from inboundmx.app.settings import BadSettings, load
from inboundmx.app.spawning import Cradle, forked
from inboundmx.app.starting import CannotStart
from inboundmx.model.settings import Settings

__all__ = ["CannotStart", "Gateway", "prepare", "run"]


class Gateway(Protocol):
    """``GatewayService`` or ``SupervisorService``. ``failed``: why it stopped by itself after it had been started,
    sentences; empty: it was asked to."""

    failed: list[str]

    def privilegedStartService(self) -> None: ...

    def startService(self) -> None: ...

    def stopService(self) -> Deferred[Any]: ...


def prepare(config: str) -> Gateway:
    """The service that an INI describes, not yet started. Raises CannotStart with all that is wrong."""
    return _service(_settings(config), config, None)


def _settings(config: str) -> Settings:
    try:
        settings = load(config)
    except BadSettings as bad:
        raise CannotStart([str(problem) for problem in bad.problems]) from bad
    problems = problems_at_start(settings)
    if problems:
        raise CannotStart(problems)
    return settings


def _service(settings: Settings, config: str, cradle: Cradle | None) -> Gateway:
    from twisted.internet import reactor as installed

    reactor: Any = installed
    reactor.addSystemEventTrigger("before", "shutdown", _asked_to_stop)
    # Whichever it is, the other need not be loaded.
    if settings.gateway.workers:
        from inboundmx.app.supervisor import SupervisorService

        return SupervisorService(settings, reactor, config, cradle)
    from inboundmx.app.assemble import GatewayService

    return GatewayService(settings, reactor, config)


def _asked_to_stop() -> None:
    """Who asks again while we stop need not be told that we do: Twisted would call it a fault."""
    with contextlib.suppress(ValueError):  # Not the main thread: whoever runs us there has other means.
        for again in (signal.SIGTERM, signal.SIGINT):
            signal.signal(again, signal.SIG_IGN)


def run(config: str) -> int:
    """Runs the gateway in the foreground until SIGTERM or SIGINT. 0: stopped as asked; 1: a fault; 2: cannot start."""
    try:
        settings = _settings(config)
        cradle = None
        if settings.gateway.workers and "twisted.internet.reactor" not in sys.modules:
            # Here, once: the supervisor, the nursery and the workers share what this loads.
            from inboundmx.app import nursery

            nursery.settle()
            born = forked()
            if isinstance(born, socket.socket):
                return nursery.main(born)
            cradle = born
        service = _service(settings, config, cradle)
        service.privilegedStartService()
        service.startService()
    except CannotStart as trouble:
        trouble.tell()
        return 2
    except Exception as fault:  # noqa: BLE001 - the last place that can tell an operator
        print(f"inboundmx: {type(fault).__name__}: {fault}", file=sys.stderr)  # noqa: T201
        return 1
    from twisted.internet import reactor as installed

    reactor: Any = installed
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()
    if service.failed:
        CannotStart(service.failed).tell()
        return 2
    return 0
