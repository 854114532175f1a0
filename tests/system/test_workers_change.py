"""Workers that hang, that are replaced again and again, and whose sockets change under them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
from programs import Gateway, Stage, Wire, domain, free_port, letter, post, until
from serial_load import serials
from test_workers import TWO, Steady, alive, only, parent_of, pids

ROLLS = 20


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def ledgers_open(workers: Sequence[int]) -> bool:
    """Each opens its own with the first thing there is to keep; until then a count of descriptors is not its last."""

    def is_open(pid: int) -> bool:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            # It may be closed before it is looked at.
            with contextlib.suppress(FileNotFoundError):
                if "/ledger/" in os.readlink(descriptor):
                    return True
        return False

    return all(map(is_open, workers))


def no_more(before: list[int], processes: Sequence[int]) -> bool:
    """Each by itself; what was asked of a worker may take a moment to end."""
    return all(descriptors(pid) <= count for pid, count in zip(processes, before, strict=True))


def greets(port: int) -> bool:
    try:
        with Wire(port) as wire:
            return wire.reply().code == 220
    except ConnectionRefusedError:
        return False


# --- hanging ----------------------------------------------------------------------------------------------------------


def test_one_that_hangs_is_killed_and_mail_that_hangs_three_is_parked(play: Stage) -> None:
    primary = play.recording()
    keys = "workers = 1\nhung_after = 2s\n"
    gateway = play.gateway(domain(primary.port, handover="spool"), gateway_keys=keys, launcher="hanging")
    with contextlib.suppress(EOFError):  # It is on the disk and on its way before the answer is.
        post(gateway.port, letter("poison"), sender="poison@stranger.example")

    until("parked", lambda: gateway.log_events(event="held"), patience=60)

    hung, died = gateway.log_events(event="worker_hangs"), gateway.log_events(event="worker_died")
    (held,) = gateway.listed("spool", "list", "--state", "held")
    assert [event["in_hand"] for event in hung] == [[held["id"]]] * 3
    assert [event["how"] for event in died] == ["signal 6"] * 3
    assert all("hanging_gateway.py" in event["at"][0] and "attempt_or_hang" in event["at"][0] for event in died)
    assert gateway.log_events(event="held")[0]["cause"] == "crashes"
    pids(gateway)
    assert post(gateway.port, letter("innocent")).code == 250
    primary.one(b"innocent")


def test_one_that_does_not_even_hear_that_it_shall_end_is_killed(play: Stage) -> None:
    gateway = play.gateway(domain(free_port()), gateway_keys=f"{TWO}hung_after = 2s\n")
    stopped, other = pids(gateway)
    os.kill(stopped, signal.SIGSTOP)
    (died,) = until("another in its place", lambda: gateway.log_events(event="worker_died"))
    assert (died["pid"], died["how"]) == (stopped, "signal 9")
    assert pids(gateway)[1] == other


# --- replacing --------------------------------------------------------------------------------------------------------


def test_twenty_rolls_under_load_refuse_nobody_and_leave_nothing_open(play: Stage) -> None:
    primary = play.recording()
    gateway = play.gateway(domain(primary.port), gateway_keys=TWO)
    nursery = parent_of(pids(gateway)[0])
    load = Steady(gateway.port)
    load.start()

    def roll() -> None:
        load.some_more(2)
        done = len(gateway.log_events(event="worker_replaced"))
        os.kill(gateway.pid, signal.SIGUSR2)
        until("both replaced", lambda: len(gateway.log_events(event="worker_replaced")) == done + 2)

    roll()
    before = [descriptors(pid) for pid in (gateway.pid, nursery, *pids(gateway))]
    for _ in range(ROLLS - 1):
        roll()
        gateway.hangup()
    load.some_more()
    load.finish()
    running = pids(gateway)
    gateway.hangup()
    until("something in each ledger", lambda: ledgers_open(running))
    before[2:] = [descriptors(pid) for pid in running]
    for _ in range(5):
        done = len(gateway.log_events(event="reloaded"))
        gateway.hangup()
        until("reloaded", lambda done=done: len(gateway.log_events(event="reloaded")) > done)

    until("as many descriptors as before", lambda: no_more(before, (gateway.pid, nursery, *running)))
    assert load.refused == 0
    assert gateway.log_events(event="worker_died") == gateway.log_events(event="worker_not_replaced") == []
    gateway.drain()
    arrived = serials(primary, load)
    assert load.accepted - set(arrived) == set(), "lost"
    assert {serial for serial, times in arrived.items() if times > 1} == set(), "doubled"
    # Nobody but those who are listed.
    listed = {gateway.pid, nursery, *running}
    assert {pid for pid in processes_of(gateway) if alive(pid)} == listed


def processes_of(gateway: Gateway) -> list[int]:
    """Of its session, which is its own."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.getsid(int(entry)) == gateway.pid:
                found.append(int(entry))
        except ProcessLookupError:
            continue
    return found


@pytest.mark.parametrize("replaced", [0, 1])
def test_a_stop_in_the_middle_of_a_roll_leaves_nobody(play: Stage, replaced: int) -> None:
    gateway = play.gateway(domain(free_port()), gateway_keys=TWO)
    pids(gateway)
    # Nothing more is forked: whoever is to replace another is being loaded for ever.
    nursery = parent_of(pids(gateway)[0])
    os.kill(gateway.pid, signal.SIGUSR2)
    until("so many are replaced", lambda: len(gateway.log_events(event="worker_replaced")) == replaced)
    assert gateway.stop() == 0
    until("all have ended", lambda: not [pid for pid in processes_of(gateway) if alive(pid)])
    assert not alive(nursery)


# --- sockets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 2])
def test_listen_changes_with_a_reload_and_what_stays_is_left_alone(play: Stage, number: int) -> None:
    gateway = play.gateway(domain(free_port()), gateway_keys=f"workers = {number}\n")
    first, second, third = f"tcp:{gateway.port}:interface=127.0.0.1", free_port(), free_port()
    text = gateway.config.read_text()

    def listen(*endpoints: str) -> None:
        done = len(gateway.log_events(event="reloaded"))
        gateway.config.write_text(text.replace(f"listen = {first}", f"listen = {' '.join(endpoints)}"))
        gateway.hangup()
        until("reloaded", lambda: len(gateway.log_events(event="reloaded")) > done)

    def reached(port: int) -> None:
        """By each of the workers."""
        if not number:
            assert greets(port)
            return
        running = pids(gateway)
        for each in range(number):
            with only(each, running):
                assert greets(port)

    with Wire(gateway.port) as staying:
        staying.hello()
        listen(first, f"tcp:{second}:interface=127.0.0.1", f"tcp:{third}:interface=127.0.0.1")
        for port in (gateway.port, second, third):
            reached(port)
        assert gateway.log_events(event="reloaded")[-1]["listen"] == [
            f"127.0.0.1:{port}" for port in (gateway.port, second, third)
        ]
        listen(first, f"tcp:{third}:interface=127.0.0.1")
        assert not greets(second)
        reached(third)
        assert staying.ask("NOOP").code == 250
        # From one that is given up, a connection that is there goes on, too.
        listen(f"tcp:{third}:interface=127.0.0.1")
        assert not greets(gateway.port)
        assert staying.ask("NOOP").code == 250
    listen(first)
    if number:
        os.kill(pids(gateway)[1], signal.SIGKILL)
        until("another", lambda: gateway.log_events(event="worker_died"))
    reached(gateway.port)


@pytest.mark.parametrize("number", [0, 2])
def test_what_cannot_be_bound_refuses_the_reload_whole(play: Stage, number: int) -> None:
    gateway = play.gateway(domain(free_port()), gateway_keys=f"workers = {number}\n")
    text, free = gateway.config.read_text(), free_port()
    ours = f"tcp:{gateway.port}:interface=127.0.0.1"
    if number:
        gateway.hangup()
        until("something in each ledger", lambda: ledgers_open(pids(gateway)))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for number_of_times, (endpoint, why) in enumerate(
            [
                (f"{ours} tcp:{free}:interface=127.0.0.1 tcp:{port}:interface=127.0.0.1", "another program"),
                (f"tcp:{free}:interface=127.0.0.1 tcp:{gateway.port}:interface=127.0.0.1:backlog=5", "a restart"),
            ],
            1,
        ):
            gateway.config.write_text(text.replace(ours, endpoint))
            gateway.hangup()
            until("refused", lambda count=number_of_times: len(gateway.log_events(event="reload_refused")) == count)
            (problem,) = gateway.log_events(event="reload_refused")[-1]["problems"]
            assert "cannot listen on" in problem and why in problem
            assert not greets(free), "nothing of it is done"
            assert greets(gateway.port)
    if number:
        processes = (gateway.pid, *pids(gateway))
        before = [descriptors(pid) for pid in processes]
        gateway.hangup()
        until("refused once more", lambda: len(gateway.log_events(event="reload_refused")) == 3)
        until("as many descriptors as before", lambda: no_more(before, processes))
        assert pids(gateway) == list(processes[1:])


@pytest.mark.root
def test_a_port_that_only_root_may_bind_asks_for_a_restart(play: Stage) -> None:
    gateway = play.gateway(domain(free_port()), gateway_keys="workers = 1\nuser = nobody\n")
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 1:
        pytest.skip("everybody may bind any port here")
    text = gateway.config.read_text()
    gateway.config.write_text(text.replace("\nlisten = ", "\nlisten = tcp:587:interface=127.0.0.1 "))
    os.chmod(gateway.config, 0o644)
    gateway.hangup()
    (refused,) = until("refused", lambda: gateway.log_events(event="reload_refused"))
    assert "needs a restart" in refused["problems"][0]
    assert post(gateway.port, letter("still there")).code == 250
