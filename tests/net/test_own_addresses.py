"""The machine's own addresses: those others can reach, read now and then."""

from __future__ import annotations

from collections.abc import Iterable

from fakes.clock import FakeClock

from inboundmx.net.own_addresses import HOLDS_SECONDS, OwnAddresses, system_addresses


class Machine:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.has: list[str] = []
        self.asked = 0
        self.broken = False
        self.own = OwnAddresses(self.clock, self.listed)

    def listed(self) -> Iterable[str]:
        self.asked += 1
        if self.broken:
            raise OSError
        return self.has


def test_what_others_can_reach() -> None:
    machine = Machine()
    machine.has = ["127.0.0.1", "127.0.1.1", "::1", "169.254.1.2", "fe80::1", "fe80::2%eth0", "0.0.0.0", "::",
                   "192.0.2.7", "10.1.2.3", "2001:db8:0:0:0:0:0:7", "2001:DB8::8"]  # fmt: skip
    assert machine.own() == {"192.0.2.7", "10.1.2.3", "2001:db8::7", "2001:db8::8"}


def test_read_once_a_minute() -> None:
    machine = Machine()
    machine.has = ["192.0.2.7"]
    assert machine.own() == machine.own() == {"192.0.2.7"}
    machine.has = ["192.0.2.8"]
    machine.clock.advance(HOLDS_SECONDS - 1)
    assert machine.own() == {"192.0.2.7"} and machine.asked == 1
    machine.clock.advance(1)
    assert machine.own() == {"192.0.2.8"} and machine.asked == 2


def test_what_was_known_stays_when_it_cannot_be_read() -> None:
    machine = Machine()
    machine.has = ["192.0.2.7"]
    assert machine.own()
    machine.broken = True
    machine.clock.advance(HOLDS_SECONDS)
    assert machine.own() == machine.own() == {"192.0.2.7"} and machine.asked == 2


def test_this_machine_has_a_loopback() -> None:
    assert "127.0.0.1" in set(system_addresses())
    assert "127.0.0.1" not in OwnAddresses(FakeClock())()
