"""The control socket: who may ask, how much, and that every request is answered once, in order."""

from __future__ import annotations

import itertools
import json
import os
import socket
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from inboundmx.app import control
from inboundmx.app.answers import NotUnderstood
from inboundmx.app.control import AlreadyRunning, ControlConnection, ControlFactory, make_way
from inboundmx.cli.asking import REQUEST_LIMIT, CannotAsk, NotRunning, ask_gateway, read, socket_address
from inboundmx.ports import StorageFull, Unavailable


class FakeOperations:
    """Answers what ``answers`` holds for the operation: rows, an exception to raise, or a Deferred to wait for."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any], str]] = []

    async def perform(self, operation: str, arguments: Mapping[str, Any], asked_by: str) -> Iterable[dict[str, Any]]:
        self.asked.append((operation, dict(arguments), asked_by))
        answer = self.answers[operation]
        if isinstance(answer, Deferred):
            answer = await answer
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]


class Desk:
    def __init__(self, **answers: Any) -> None:
        self.operations = FakeOperations(**answers)
        self.clock = Clock()
        self.factory = ControlFactory(self.operations, self.clock)  # type: ignore[arg-type]

    def connect(self) -> tuple[ControlConnection, StringTransport]:
        connection = self.factory.buildProtocol(None)
        assert isinstance(connection, ControlConnection)
        transport = StringTransport()
        connection.makeConnection(transport)
        return connection, transport


def heard(transport: StringTransport) -> list[Any]:
    """What was answered, the producer asked until it has no more."""
    while transport.producer is not None:
        transport.producer.resumeProducing()
    lines = transport.value().splitlines()
    transport.clear()
    return [json.loads(line) for line in lines]


def request(operation: str, **arguments: Any) -> bytes:
    return json.dumps({"operation": operation, "arguments": arguments}).encode() + b"\n"


def test_rows_are_answered_and_then_the_end() -> None:
    desk = Desk(list=[{"id": 1}, {"id": 2}])
    connection, transport = desk.connect()
    connection.dataReceived(request("list", ids=["a"]))
    assert heard(transport) == [{"row": {"id": 1}}, {"row": {"id": 2}}, {"end": True}]
    assert desk.operations.asked == [("list", {"ids": ["a"]}, "unknown")]


def test_many_rows_are_written_a_part_at_a_time() -> None:
    connection, transport = Desk(list=({"id": n} for n in range(1150))).connect()
    connection.dataReceived(request("list"))
    transport.producer.resumeProducing()
    assert transport.value().count(b"\n") == 500
    transport.clear()
    assert len(heard(transport)) == 651


def test_rows_may_be_text_already_and_may_take_their_time() -> None:
    desk = Desk(list=['{"id":1}', None, None, {"id": 2}, None])
    connection, transport = desk.connect()
    connection.dataReceived(request("list"))
    said = []
    for _ in range(3):
        transport.producer.resumeProducing()
        said.append(transport.value())
        transport.clear()
        if not said[-1]:
            # Nothing was written, so the transport will not ask again.
            desk.clock.advance(0)
            said.append(transport.value())
            transport.clear()
    assert said == [b'{"row":{"id":1}}\n', b"", b'{"row":{"id":2}}\n', b'{"end":true}\n']


def test_rows_that_take_their_time_end_with_the_connection() -> None:
    desk = Desk(list=itertools.repeat(None))
    connection, transport = desk.connect()
    connection.dataReceived(request("list"))
    transport.producer.resumeProducing()
    transport.producer.stopProducing()
    connection.connectionLost()
    desk.clock.advance(0)
    assert desk.clock.getDelayedCalls() == [] and transport.value() == b""


def test_a_second_request_waits_for_the_first() -> None:
    slow: Deferred[Any] = Deferred()
    desk = Desk(slow=slow, list=[{"id": 2}])
    connection, transport = desk.connect()
    connection.dataReceived(request("slow") + request("list"))
    assert heard(transport) == [] and len(desk.operations.asked) == 1
    slow.callback([{"id": 1}])
    assert heard(transport) == [{"row": {"id": 1}}, {"end": True}, {"row": {"id": 2}}, {"end": True}]


@pytest.mark.parametrize(
    ("failure", "sentence", "usage"),
    [
        (NotUnderstood("needs ids"), "needs ids", True),
        (StorageFull("no space left"), "not done: no space left; try again later", False),
    ],
)
def test_trouble_is_a_sentence_and_the_next_request_is_heard(failure: Exception, sentence: str, usage: bool) -> None:
    connection, transport = Desk(list=failure).connect()
    connection.dataReceived(request("list") + request("list"))
    assert heard(transport) == [{"error": sentence, "usage": usage}] * 2


def failing_rows() -> Iterable[dict[str, Any]]:
    yield {"id": 1}
    raise ZeroDivisionError


@pytest.mark.parametrize("answer", [ZeroDivisionError(), failing_rows()])
def test_a_fault_of_ours_is_told_without_its_traceback(answer: Any, capsys: Any) -> None:
    connection, transport = Desk(list=answer).connect()
    connection.dataReceived(request("list"))
    *_, last = heard(transport)
    assert last == {"error": "the gateway failed to do this; its log says why"}


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"[]", b"null", b"7", b'"x"', b"\xff", b"not json", b'{"operation": 5}', b"[" * 5000,
     b'{"operation": "list", "arguments": [1]}', b'{"operation": "list", "on_behalf_of": 5}'],
)  # fmt: skip
def test_what_is_no_request_is_refused_and_never_performed(line: bytes) -> None:
    desk = Desk()
    connection, transport = desk.connect()
    connection.dataReceived(line + b"\n")
    (answer,) = heard(transport)
    assert answer["usage"] and not desk.operations.asked


def test_a_request_past_the_limit_ends_the_connection() -> None:
    connection, transport = Desk().connect()
    connection.dataReceived(b"x" * (REQUEST_LIMIT + 1))
    (answer,) = heard(transport)
    assert str(REQUEST_LIMIT) in answer["error"] and transport.disconnecting


def test_silence_ends_the_connection_but_never_while_something_is_done() -> None:
    slow: Deferred[Any] = Deferred()
    desk = Desk(slow=slow)
    connection, transport = desk.connect()
    desk.clock.advance(control.IDLE_SECONDS - 1)
    connection.dataReceived(request("slow"))
    desk.clock.advance(control.IDLE_SECONDS * 10)
    assert not transport.disconnecting
    slow.callback([])
    assert heard(transport) == [{"end": True}]
    desk.clock.advance(control.IDLE_SECONDS)
    assert transport.disconnecting


def test_past_its_bound_connections_are_refused() -> None:
    desk = Desk(list=[])
    kept = [desk.connect() for _ in range(control.MAX_CONNECTIONS)]
    _, transport = desk.connect()
    assert "try again" in heard(transport)[0]["error"] and transport.disconnecting
    assert not any(transport.disconnecting for _, transport in kept)


def test_who_hangs_up_does_not_stop_what_was_begun() -> None:
    slow: Deferred[Any] = Deferred()
    desk = Desk(slow=slow)
    connection, transport = desk.connect()
    connection.dataReceived(request("slow"))
    connection.connectionLost()
    assert desk.factory.underway and not slow.called
    slow.callback([{"id": 1}])
    assert not desk.factory.underway and transport.value() == b""


# --- the file of the socket -------------------------------------------------------------------------------------------


def test_a_dead_socket_makes_way(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    for absent in (path, tmp_path / "nosuch" / "control.sock", tmp_path / ("deep" * 40) / "control.sock"):
        make_way(absent)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    make_way(path)
    assert not path.exists()


def test_a_live_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen()
        with pytest.raises(AlreadyRunning, match="another gateway"):
            make_way(path)
    assert path.exists()


# --- a real one, in a process of its own ------------------------------------------------------------------------------

SERVER = """
    import sys
    from pathlib import Path
    from twisted.internet import reactor
    from inboundmx.app.control import ControlSocket

    class Operations:
        async def perform(self, operation, arguments, asked_by):
            if operation == "who":
                return [{"asked_by": asked_by, "arguments": arguments}]
            return ({"id": n, "text": "x" * 100} for n in range(5000))

    service = ControlSocket(Path(sys.argv[1]), Operations(), reactor)
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    print("ready", flush=True)
    reactor.run()
"""


@pytest.mark.parametrize("folder", ["data", "deep" * 40])
def test_a_real_one_answers_knows_its_asker_and_leaves_nothing_behind(tmp_path: Path, folder: str) -> None:
    data = tmp_path / folder
    data.mkdir()
    with pytest.raises(NotRunning):
        list(ask_gateway(str(data), "who", {}))
    command = [sys.executable, "-c", textwrap.dedent(SERVER), str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None and server.stdout.readline() == "ready\n"
            (row,) = read(ask_gateway(str(data), "who", {"ids": ["e1"]}))
            assert f"uid {os.getuid()}" in row["asked_by"] and row["arguments"] == {"ids": ["e1"]}
            assert [row["id"] for row in read(ask_gateway(str(data), "list", {}))] == list(range(5000))
            with pytest.raises(CannotAsk, match="too many ids"):
                list(ask_gateway(str(data), "who", {"ids": ["x" * 100] * 5000}))
            # One that has connected and says nothing must not keep the gateway from stopping.
            with socket.socket(socket.AF_UNIX) as idle:
                with socket_address(data / "control.sock") as address:
                    idle.connect(address)
                assert stat.S_IMODE((data / "control.sock").stat().st_mode) == 0o600
                server.terminate()
                assert server.wait(20) == 0
        finally:
            server.kill()
    assert list(data.iterdir()) == []


def test_rows_that_others_make_are_waited_for() -> None:
    coming: Deferred[None] = Deferred()
    more: Deferred[None] = Deferred()
    desk = Desk(list=[{"id": 1}, coming, more, {"id": 2}])
    connection, transport = desk.connect()
    connection.dataReceived(request("list"))
    for _ in range(3):
        transport.producer.resumeProducing()
    assert transport.value() == b'{"row":{"id":1}}\n'
    coming.callback(None)
    more.callback(None)
    assert heard(transport) == [{"row": {"id": 1}}, {"row": {"id": 2}}, {"end": True}]


def test_rows_that_end_in_trouble_say_which() -> None:
    def rows() -> Any:
        yield {"id": 1}
        raise Unavailable("worker 1 does not answer")

    connection, transport = Desk(list=rows()).connect()
    connection.dataReceived(request("list"))
    assert heard(transport) == [{"row": {"id": 1}}, {"error": "worker 1 does not answer", "usage": False}]


def test_who_asks_no_longer_ends_the_rows_that_others_make() -> None:
    ended: list[bool] = []

    def rows() -> Any:
        try:
            yield from itertools.repeat({"id": 1})
        finally:
            ended.append(True)

    connection, transport = Desk(list=rows()).connect()
    connection.dataReceived(request("list"))
    transport.producer.resumeProducing()
    transport.producer.stopProducing()
    assert ended == [True]


def test_the_word_of_the_supervisor_is_taken_for_who_asks() -> None:
    desk = Desk(list=[])
    desk.factory.asked_for = 4711
    for pid in (4711, 4712):
        connection, _ = desk.connect()
        connection._pid, connection._uid = pid, os.geteuid()
        connection.dataReceived(b'{"operation": "list", "on_behalf_of": "ann (uid 7)"}\n')
    first, second = (asked_by for _, _, asked_by in desk.operations.asked)
    assert first == "ann (uid 7)"
    assert second != first
