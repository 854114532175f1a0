"""A crowd that says an octet now and then, and honest mail beside it, in the gateway's own time: every slow one is let
go when its time is over, whatever it drips, and none is waited for."""

from __future__ import annotations

import os
from contextlib import ExitStack

from programs import Gateway, Stage, Wire, domain, free_port, letter, post, until

EACH = 3
HELLO = b"EHLO slow.stranger.example\r\n"
ENVELOPE = HELLO + b"MAIL FROM:<slow@stranger.example>\r\nRCPT TO:<user@here.example>\r\n"
# What each kind says at first, what it says again and again, and the seconds after which nobody of it is left.
KINDS = {
    "nothing at all": (b"", b"", 900),
    "a greeting that drips": (b"", b"E", 120),
    "a command that drips": (HELLO, b"N", 120),
    "a command that drips in a transaction": (ENVELOPE, b"R", 300),
    "silence in a transaction": (ENVELOPE, b"", 900),
    "a message that drips": (ENVELOPE + b"DATA\r\n", b"y", 600),
    "lines that drip": (ENVELOPE + b"DATA\r\n", b"\r\n", 600),
    "a message that stops": (ENVELOPE + b"DATA\r\nSubject: x\r\n", b"", 600),
    "chatter": (HELLO, b"NOOP\r\nRSET\r\n" * 3, 600),
    "bad commands": (HELLO, b"FROB\r\n", 300),
}
STEP = 20


def descriptors(gateway: Gateway) -> int:
    return len(os.listdir(f"/proc/{gateway.pid}/fd"))


def closed(wire: Wire) -> bool:
    """By the other end, as far as it has come here; takes what was said."""
    wire.socket.setblocking(False)
    try:
        while octets := wire.socket.recv(65536):
            wire.heard += octets
    except BlockingIOError:
        return False
    except ConnectionResetError:
        pass
    return True


class Slow(Wire):
    def __init__(self, port: int, number: int, first: bytes) -> None:
        super().__init__(port)
        self.heard = b""
        self.send(f"PROXY TCP4 198.18.0.{number} 192.0.2.25 4000 25\r\n".encode() + first)


def test_slow_strangers_have_their_time_and_honest_ones_do_not_wait_for_it(play: Stage) -> None:
    primary, port = play.recording(), free_port()
    gateway = play.gateway(
        domain(primary.port), extra_listen=f"haproxy:tcp:{port}:interface=127.0.0.1", launcher="warped"
    )
    assert post(gateway.port, letter("before them")).code == 250
    before = descriptors(gateway)
    with ExitStack() as stack:
        there: dict[str, list[Slow]] = {kind: [] for kind in KINDS}
        for number, (kind, (first, _, _)) in enumerate(list(KINDS.items()) * EACH):
            there[kind].append(stack.enter_context(Slow(port, number, first)))
        everybody = [wire for wires in there.values() for wire in wires]
        until("all of them are there", lambda: descriptors(gateway) >= before + len(everybody))
        for passed in range(STEP, 940, STEP):
            for kind, wires in there.items():
                for wire in wires:
                    try:
                        wire.send(KINDS[kind][1])
                    except OSError:
                        continue
            gateway.pass_time(STEP)
            if passed % 100 == 0:
                assert post(gateway.port, letter(f"after {passed} s")).code == 250
            there = {kind: [wire for wire in wires if not closed(wire)] for kind, wires in there.items()}
            late = {kind: len(wires) for kind, wires in there.items() if wires and passed >= KINDS[kind][2] + STEP}
            assert late == {}, f"still there after {passed} s"
        for wire in everybody:
            assert wire.heard.startswith(b"220 ")
            assert wire.heard.rstrip(b"\r\n").rpartition(b"\r\n")[2].startswith(b"421 "), wire.heard
    until("nothing is left of them", lambda: descriptors(gateway) <= before + 2)
    assert primary.count() == 10
