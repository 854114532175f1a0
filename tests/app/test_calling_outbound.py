"""How the servers that mail leaves by are tried, and that it works in a process of its own."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from inboundmx.app.calling_outbound import OutboundCall, try_all
from inboundmx.model.custody import Host, Terms
from inboundmx.model.settings import DeliverySettings, OutboundSettings, Settings
from inboundmx.ports import Refused

FIRST, SECOND = Host("192.0.2.40"), Host("smtp.relay.example", 587)


class Made:
    def __init__(self, host: Host, tls: str) -> None:
        self.host, self.tls, self.extensions = host, tls, {}
        self.gone: Deferred[None] = Deferred()
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Dialled:
    """A Transmitter that connects to all hosts but those in ``broken``."""

    def __init__(self, broken: dict[Host, Exception] | None = None, tls: str = "TLSv1.3 X") -> None:
        self.asked: list[tuple[Host, Terms, float, str]] = []
        self.made: list[Made] = []
        self._broken, self._tls = broken or {}, tls

    def connect(self, host: Host, *, terms: Terms, seconds: float, source: str = "") -> Deferred[Any]:
        self.asked.append((host, terms, seconds, source))
        if host in self._broken:
            return fail(self._broken[host])
        self.made.append(Made(host, self._tls))
        return succeed(self.made[-1])


def tried(transmitter: Dialled, *outbound: OutboundSettings, sources: tuple[str, ...] = ()) -> list[OutboundCall]:
    settings = Settings(outbound=outbound, delivery=DeliverySettings(source_address=sources))
    ending: list[Deferred[None]] = []
    done = Deferred.fromCoroutine(try_all(settings, transmitter, 15.0, ending))  # type: ignore[arg-type]
    found: list[Any] = []
    done.addBoth(found.append)
    assert ending == [made.gone for made in transmitter.made]
    assert all(made.closed for made in transmitter.made)
    if isinstance(found[0], list):
        return found[0]
    raise found[0].value.subFailure.value


def test_each_server_is_tried_as_for_a_delivery() -> None:
    transmitter = Dialled({SECOND: Refused("rejects_us", "auth", None, "535 no")})
    relay = OutboundSettings("r", server=(FIRST, SECOND), username="me", password="x", tls="required")
    off = OutboundSettings("off", server=(Host("192.0.2.1"),), enabled=False)
    assert tried(transmitter, relay, off) == [
        OutboundCall("r", FIRST, "", True, "TLSv1.3 X, authenticated as me"),
        OutboundCall("r", SECOND, "", False, "535 no"),
    ]
    terms = Terms("required", "me", "x")
    assert transmitter.asked == [(FIRST, terms, 15.0, ""), (SECOND, terms, 15.0, "")]


def test_without_encryption_and_name() -> None:
    assert tried(Dialled(tls=""), OutboundSettings("r", server=(FIRST,)))[0].detail == "not encrypted"


@pytest.mark.parametrize(
    ("host", "own", "delivery", "from_"),
    [
        ("192.0.2.40", ("192.0.2.5", "2001:db8::5"), (), ["192.0.2.5"]),
        ("2001:db8::40", ("192.0.2.5", "2001:db8::5"), (), ["2001:db8::5"]),
        ("2001:db8::40", ("192.0.2.5",), ("2001:db8::6",), [""]),
        ("192.0.2.40", (), ("192.0.2.6", "192.0.2.7"), ["192.0.2.6", "192.0.2.7"]),
        ("smtp.relay.example", ("192.0.2.5", "2001:db8::5"), (), ["192.0.2.5", "2001:db8::5"]),
    ],
)
def test_from_each_of_our_addresses(
    host: str, own: tuple[str, ...], delivery: tuple[str, ...], from_: list[str]
) -> None:
    transmitter = Dialled()
    calls = tried(transmitter, OutboundSettings("r", server=(Host(host),), source_address=own), sources=delivery)
    assert [call.source for call in calls] == from_
    assert [source for _, _, _, source in transmitter.asked] == from_


def test_a_fault_of_ours_is_not_taken_for_an_answer() -> None:
    with pytest.raises(ZeroDivisionError):
        tried(Dialled({FIRST: ZeroDivisionError()}), OutboundSettings("r", server=(FIRST, SECOND)))


def serve(listening: socket.socket, heard: list[str]) -> None:
    line, _ = listening.accept()
    with line, line.makefile("rb") as reader:
        line.sendall(b"220 relay.example\r\n")
        while said := reader.readline().decode().rstrip():
            heard.append(said)
            if said == "QUIT":
                line.sendall(b"221 bye\r\n")
                return
            line.sendall(b"250-relay.example\r\n250 SIZE\r\n" if said.startswith("EHLO") else b"500 what\r\n")


def test_the_command_tries_them(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        config = tmp_path / "in.ini"
        config.write_text(
            f"[gateway]\nhostname = mx1.example.net\ndata = data\n"
            f"[outbound a]\nserver = 127.0.0.1:{port}\nsource_address = 127.0.0.1\n"
            f"[outbound b]\nserver = 127.0.0.1:{nobody}\n"
        )
        heard: list[str] = []
        thread = threading.Thread(target=serve, args=(listening, heard), daemon=True)
        thread.start()
        done = subprocess.run(
            [sys.executable, "-m", "inboundmx", "--config", str(config), "check", "--json"],
            capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "PYTHONWARNINGS": ""},
        )  # fmt: skip
        thread.join(10)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["outbound"] == [
        {"outbound": "a", "server": f"127.0.0.1:{port}", "source_address": "127.0.0.1", "answers": True,
         "detail": "not encrypted"},
        {"outbound": "b", "server": f"127.0.0.1:{nobody}", "source_address": "", "answers": False,
         "detail": "no connection: Connection refused"},
    ]  # fmt: skip
    assert heard == ["EHLO mx1.example.net", "QUIT"]
