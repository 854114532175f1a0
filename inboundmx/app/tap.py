"""``twistd inboundmx --config FILE``: the options and the service that Twisted's plugin names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from twisted.python import usage

from inboundmx.app.assemble import GatewayService
from inboundmx.app.process import DEFAULT_CONFIG, CannotStart, prepare


class Options(usage.Options):
    """Command line of ``twistd inboundmx``."""

    longdesc = "Inbound mail filtering gateway and backup MX. The same service as: inboundmx --config FILE run"
    optParameters = [["config", "c", DEFAULT_CONFIG, "the INI file"]]  # noqa: RUF012 - Twisted's own shape


class StartedByTwistd(GatewayService):
    """Tells in a sentence what stops a start, and ends with status 2: of an exception twistd would make a page."""

    def privilegedStartService(self) -> None:
        with plainly():
            super().privilegedStartService()

    def startService(self) -> None:
        with plainly():
            super().startService()


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    try:
        yield
    except CannotStart as trouble:
        trouble.tell()
        raise SystemExit(2) from None


def makeService(options: Options) -> GatewayService:
    """Raises SystemExit with status 2 when the INI, or something it names, is wrong."""
    with plainly():
        return prepare(options["config"], StartedByTwistd)
