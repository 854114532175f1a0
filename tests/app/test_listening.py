"""Sockets that another process has bound: what is spoken on them is what their endpoint says."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory

from inboundmx.app.listening import CurrentCertificate, adopt, bound
from inboundmx.app.starting import CannotStart


class Port:
    _bindPath = "as bound"


class Adopting:
    """The part of a reactor that is asked for."""

    def __init__(self) -> None:
        self.adopted: list[tuple[int, Any]] = []

    def adoptStreamPort(self, descriptor: int, family: int, factory: Any) -> Port:
        os.fstat(descriptor)
        self.adopted.append((family, factory))
        return Port()


@pytest.mark.parametrize(
    ("text", "around"),
    [
        ("tcp:25", ()),
        ("tcp6:25", ()),
        ("systemd:domain=INET6:name=smtp", ()),
        ("haproxy:tcp:25", (HAProxyWrappingFactory,)),
        ("ssl:465", (TLSMemoryBIOFactory,)),
        ("haproxy:ssl:465", (HAProxyWrappingFactory, TLSMemoryBIOFactory)),
    ],
)
def test_the_factory_is_wrapped_as_the_endpoint_says(text: str, around: tuple[type, ...]) -> None:
    reactor, factory, certificate = Adopting(), Factory(), CurrentCertificate()
    certificate.options = CertificateOptions()
    descriptor = socket.socket().detach()
    adopt(reactor, text, descriptor, factory, certificate)
    ((family, serving),) = reactor.adopted
    assert family == socket.AF_INET
    for wrapper in around:
        assert isinstance(serving, wrapper)
        serving = serving.wrappedFactory
    assert serving is factory
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_the_file_of_a_unix_socket_stays_with_whoever_bound_it(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound_by_others:
        bound_by_others.bind(str(tmp_path / "s"))
        port = adopt(Adopting(), "unix:/x", os.dup(bound_by_others.fileno()), Factory(), CurrentCertificate())
    assert port._bindPath == "\0"


def test_a_socket_unit_that_is_not_there_is_said_in_a_sentence() -> None:
    with pytest.raises(CannotStart, match="cannot listen on systemd:domain=INET:index=0"):
        bound(Adopting(), "systemd:domain=INET:index=0", Factory(), CurrentCertificate())
