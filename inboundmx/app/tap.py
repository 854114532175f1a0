"""``twistd inboundmx --config FILE``: the options and the service that Twisted's plugin names."""

from __future__ import annotations

from twisted.python import usage

from inboundmx.app.assemble import GatewayService
from inboundmx.app.process import DEFAULT_CONFIG, CannotStart, prepare


class Options(usage.Options):
    """Command line of ``twistd inboundmx``."""

    longdesc = "Inbound mail filtering gateway and backup MX. The same service as: inboundmx --config FILE run"
    optParameters = [["config", "c", DEFAULT_CONFIG, "the INI file"]]  # noqa: RUF012 - Twisted's own shape


def makeService(options: Options) -> GatewayService:
    """Raises SystemExit with status 2 when the INI, or something it names, is wrong."""
    try:
        return prepare(options["config"])
    except CannotStart as trouble:
        trouble.tell()
        raise SystemExit(2) from None
