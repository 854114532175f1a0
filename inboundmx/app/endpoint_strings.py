"""Endpoints: Twisted's strings for what we listen on and whom we ask.

Knows which of them an operator may write. Binds nothing and connects nowhere.
"""

from __future__ import annotations

import re

from twisted.internet.endpoints import clientFromString, serverFromString

from inboundmx.app.words import Wrong, nearest

ENDPOINTS = ("tcp", "tcp6", "ssl", "unix", "systemd", "haproxy")


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
