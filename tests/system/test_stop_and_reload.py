"""Stops and new settings while strangers keep sending: nothing is lost, nothing doubled, nobody is turned away."""

from __future__ import annotations

import socket
import threading

import pytest
from programs import DOMAIN, Gateway, Stage, Wire, domain, letter, post, until
from serial_load import Load, serials

STOPS, RELOADS = 5, 20


class Witness(threading.Thread):
    """A stranger who keeps coming: ``refusals`` are connections that nobody answered, and answers that were not 250."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._end = threading.Event()
        self.served = 0
        self.refusals: list[str] = []

    def run(self) -> None:
        while not self._end.is_set():
            try:
                answer = post(self._port, letter("witness"), recipients=["user@witness.example"])
            except (OSError, EOFError, AssertionError) as trouble:
                self.refusals.append(repr(trouble))
                return
            if answer.code == 250:
                self.served += 1
            else:
                self.refusals.append(str(answer))

    def finish(self) -> None:
        self._end.set()
        self.join(30)


def more(load: Load) -> None:
    accepted = len(load.accepted)
    until("some mail", lambda: len(load.accepted) > accepted + 10)


def heard(gateway: Gateway, event: str, times: int) -> None:
    until(f"{event} {times} times", lambda: len(gateway.log_events(event=event)) == times)


@pytest.mark.parametrize("handover", ["cut-through", "spool"])
def test_stops_under_load_lose_and_double_nothing(play: Stage, handover: str) -> None:
    primary = play.recording()
    gateway = play.gateway(domain(primary.port, handover=handover))
    load = Load(gateway.port, f"user@{DOMAIN}")
    load.start()
    for _ in range(STOPS):
        more(load)
        assert gateway.end(patience=10.0) == 0
        gateway.start()
    load.finish()
    gateway.drain()

    arrived = serials(primary, load)
    assert load.accepted - set(arrived) == set(), "lost"
    assert {serial for serial, times in arrived.items() if times > 1} == set(), "doubled"


def test_who_is_idle_at_a_stop_hears_421_and_who_is_sending_is_answered(play: Stage) -> None:
    primary = play.recording()
    gateway = play.gateway(domain(primary.port))
    with Wire(gateway.port) as idle, Wire(gateway.port) as busy:
        idle.hello()
        busy.hello()
        busy.envelope("a@stranger.example", f"user@{DOMAIN}")
        assert busy.ask("DATA").code == 354
        busy.send(letter("during the stop", b"x" * 70 + b"\r\n"))
        assert gateway.process is not None
        gateway.process.terminate()
        assert idle.reply().code == 421
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", gateway.port), 1.0).close()
        busy.send(b".\r\n")
        assert busy.reply().code == 250
    assert gateway.end(patience=10.0) == 0
    # Taken in the last moment: delivered then, or in the next life.
    gateway.start()
    primary.one(b"during the stop")


def test_new_settings_under_load_turn_nobody_away(play: Stage) -> None:
    primary, other = play.recording(), play.recording()
    always = domain(play.sink().port, "witness.example")
    gateway = play.gateway(always + domain(primary.port))
    load = Load(gateway.port, f"user@{DOMAIN}")
    witness = Witness(gateway.port)
    load.start()
    witness.start()
    for number in range(RELOADS):
        # Every fourth one cannot be used.
        broken = number % 4 == 3
        named = (primary, other)[number % 2]
        gateway.configure("[nonsense]\n" if broken else always + domain(named.port))
        gateway.hangup()
        heard(gateway, "reload_refused", (number + 1) // 4)
        heard(gateway, "reloaded", number + 1 - (number + 1) // 4)
        if number < 2:
            # Each of the two has some, however quick all this is.
            until("mail goes where it shall now", named.count)
    served = witness.served
    until("service goes on", lambda: witness.served > served or witness.refusals)
    witness.finish()
    load.finish()
    gateway.drain()

    assert witness.refusals == []
    arrived = serials(primary, load) + serials(other, load)
    assert load.accepted - set(arrived) == set(), "lost"
    assert {serial for serial, times in arrived.items() if times > 1} == set(), "doubled"
    assert primary.count() and other.count()
