"""``twistd inboundmx --config FILE``: the options and the service that Twisted's plugin names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.python import usage

from inboundmx.app.process import CannotStart, Gateway, prepare
from inboundmx.cli.configuration import default_config


class Options(usage.Options):
    """Command line of ``twistd inboundmx``."""

    longdesc = "Inbound mail filtering gateway and backup MX. The same service as: inboundmx --config FILE run"
    optParameters = [["config", "c", default_config(), "the INI file"]]  # noqa: RUF012 - Twisted's own shape


class StartedByTwistd(Service):
    """Tells in a sentence what stops a start, and ends with status 2: of an exception twistd would make a page."""

    name: Any = "inboundmx"

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def privilegedStartService(self) -> None:
        with plainly():
            self.gateway.privilegedStartService()

    def startService(self) -> None:
        with plainly():
            self.gateway.startService()

    def stopService(self) -> Deferred[Any]:
        return self.gateway.stopService().addCallback(lambda _: self._ended())

    def _ended(self) -> None:
        if self.gateway.failed:
            CannotStart(self.gateway.failed).tell()
            # twistd knows no status but its own.
            os._exit(2)


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    try:
        yield
    except CannotStart as trouble:
        trouble.tell()
        raise SystemExit(2) from None


def makeService(options: Options) -> StartedByTwistd:
    """Raises SystemExit with status 2 when the INI, or something it names, is wrong."""
    with plainly():
        return StartedByTwistd(prepare(options["config"]))
