"""A supervisor and its workers, real processes: they share the load, die, are replaced, and look like one gateway."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from programs import (
    DOMAIN,
    Certificate,
    Gateway,
    RecordingPrimary,
    Stage,
    Wire,
    domain,
    free_port,
    letter,
    post,
    until,
)
from serial_load import Load, serials

TWO = "workers = 2\n"


def status(gateway: Gateway) -> dict[str, Any]:
    told = json.loads(gateway.command("status", "--json"))
    (process,) = told["processes"]
    assert isinstance(process, dict)
    return process


def workers(gateway: Gateway) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = status(gateway)["workers"]
    return found


def pids(gateway: Gateway) -> list[int]:
    """By worker number, once all are ready."""

    def ready() -> list[int]:
        rows = workers(gateway)
        return [row["pid"] for row in rows] if all(row["state"] == "ready" for row in rows) else []

    return until("all workers ready", ready)


@contextlib.contextmanager
def only(number: int, running: list[int]) -> Iterator[None]:
    """Whoever comes meanwhile is served by this worker: the others stand still."""
    others = [pid for place, pid in enumerate(running) if place != number]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class Steady(Load):
    """Counts also those who found nobody listening, and messages that were not taken."""

    def __init__(self, port: int) -> None:
        super().__init__(port, f"user@{DOMAIN}")
        self.refused = 0
        self.cut = 0

    def _run(self, seed: int) -> None:
        chance = random.Random(seed)
        while not self._stop.is_set():
            try:
                wire = Wire(self._port, timeout=20)
            except OSError:
                self.refused += 1
                continue
            try:
                with wire:
                    wire.hello()
                    for _ in range(3):
                        self._one(wire, chance)
            except (OSError, EOFError, AssertionError):
                self.cut += 1

    def some_more(self, count: int = 10) -> None:
        accepted = len(self.accepted)
        until("more mail", lambda: len(self.accepted) > accepted + count)


# --- one gateway ------------------------------------------------------------------------------------------------------


def test_each_has_its_own_spool_and_all_are_told_as_one(play: Stage) -> None:
    gateway = play.gateway(domain(free_port()), gateway_keys=TWO)
    running = pids(gateway)
    subjects = {}
    for number in (0, 1, 0, 1):
        with only(number, running):
            answer = post(gateway.port, letter(f"by {number}"))
        assert answer.code == 250
        subjects[answer.id] = number

    rows = gateway.listed("spool", "list")
    told = status(gateway)

    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    assert len(rows) == 4
    assert told["spool"]["active"] == 4
    assert [row["worker"] for row in told["workers"]] == ["0", "1"]
    assert [row["pid"] for row in told["workers"]] == running
    assert len(told["primaries"]) == 1
    # What one worker found of the primary the other was told.
    assert told["primaries"][0]["state"] == "open"
    assert len(gateway.log_events(event="host_down")) == 1
    # Both ledgers, both spools.
    for id in subjects:
        assert id in gateway.command("explain", id)
    held = json.loads(gateway.command("spool", "hold", "--domain", DOMAIN, "--json"))
    assert {row["outcome"] for row in held} == {"held"}
    assert len(held) == 4
    assert len(gateway.listed("spool", "list", "--limit", "3")) == 3
    # Who asked is who typed the command, not the supervisor.
    assert all("uid" in event["asked_by"] for event in gateway.log_events(event="held"))


def test_a_pause_reaches_all(play: Stage) -> None:
    primary = play.recording()
    gateway = play.gateway(domain(primary.port), gateway_keys=TWO)
    running = pids(gateway)
    gateway.command("spool", "pause", DOMAIN, "--reason", "moving")
    for number in (0, 1):
        with only(number, running):
            assert post(gateway.port, letter(f"paused {number}")).code == 250
    assert len(gateway.listed("spool", "list")) == 2
    assert len(status(gateway)["paused"]) == 1
    assert primary.count() == 0

    gateway.command("spool", "resume", DOMAIN)

    until("both delivered", lambda: primary.count() == 2)


def test_greylisting_is_one_memory(play: Stage) -> None:
    primary = play.recording()
    checks = "[check greylist]\nuse = greylist\n[greylisting]\nblock = 1s\n"
    gateway = play.gateway(domain(primary.port) + checks, gateway_keys=TWO)
    running = pids(gateway)
    with only(0, running):
        assert post(gateway.port, letter("first")).code == 451
    with only(1, running):
        until("passed at the other", lambda: post(gateway.port, letter("again")).code == 250)
    assert len(gateway.listed("greylist", "list")) == 1
    assert gateway.command("greylist", "forget", "stranger.example") == "1 forgotten\n"
    assert gateway.listed("greylist", "list") == []


def test_fewer_workers_deliver_what_more_had_promised(play: Stage) -> None:
    primary = play.recording(start=False)
    gateway = play.gateway(domain(primary.port), gateway_keys=TWO)
    running = pids(gateway)
    for number in (0, 1):
        with only(number, running):
            assert post(gateway.port, letter(f"promised by {number}")).code == 250
    gateway.stop()
    assert len(gateway.listed("spool", "list")) == 2, "commands read all folders of a stopped gateway"
    gateway.config.write_text(gateway.config.read_text().replace("workers = 2", "workers = 1"))
    primary.start()
    gateway.start()
    until("both delivered", lambda: primary.count() == 2)
    assert not (gateway.data / "spool" / "1").exists()


def test_the_console_answers_for_all(play: Stage) -> None:
    port = free_port()
    console = f"[console]\nlisten = tcp:{port}:interface=127.0.0.1\nusername = u\npassword = p\n"
    gateway = play.gateway(domain(free_port()) + console, gateway_keys=TWO)
    running = pids(gateway)
    for number in (0, 1):
        with only(number, running):
            assert post(gateway.port, letter(f"for {number}")).code == 250

    def asked(path: str) -> tuple[int, bytes]:
        with socket.create_connection(("127.0.0.1", port), 10) as asking:
            asking.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic dTpw\r\n\r\n".encode())
            answer = b""
            while part := asking.recv(65536):
                answer += part
        return int(answer.split(b" ")[1]), answer.partition(b"\r\n\r\n")[2]

    assert asked("/healthz") == (200, b"ok\n")
    until("both are counted", lambda: json.loads(asked("/api/status")[1])["spool"]["active"] == 2)


# --- death and change -------------------------------------------------------------------------------------------------


def test_a_worker_killed_under_load_loses_nothing_and_nobody_is_refused(play: Stage) -> None:
    primary = play.recording()
    gateway = play.gateway(domain(primary.port), gateway_keys=TWO)
    load = Steady(gateway.port)
    load.start()
    for number in (0, 1):
        load.some_more()
        os.kill(pids(gateway)[number], signal.SIGKILL)
        load.some_more()
    load.finish()
    pids(gateway)
    gateway.drain()

    arrived = serials(primary, load)
    assert load.accepted - set(arrived) == set(), "lost"
    assert load.refused == 0
    died = gateway.log_events(event="worker_died")
    assert [(event["worker"], event["how"], event["restart_in_seconds"]) for event in died] == [
        (0, "signal 9", 0.0),
        (1, "signal 9", 0.0),
    ]
    assert [row["restarts"] for row in workers(gateway)] == [1, 1]


def test_reloads_and_a_rolling_restart_under_load_refuse_and_lose_nothing(play: Stage) -> None:
    primary = play.recording()
    gateway = play.gateway(domain(primary.port), gateway_keys=TWO)
    before = pids(gateway)
    load = Steady(gateway.port)
    load.start()
    for number in range(10):
        load.some_more(2)
        if number == 5:
            right = gateway.config.read_text()
            gateway.config.write_text(right + "[smtp]\nmax_hop_count = many\n")
            gateway.hangup()
            until("refused", lambda: gateway.log_events(event="reload_refused"))
            gateway.config.write_text(right)
            continue
        done = len(gateway.log_events(event="reloaded"))
        gateway.hangup()
        until("reloaded", lambda done=done: len(gateway.log_events(event="reloaded")) > done)
    assert load.cut == 0, "a reload is not noticed"
    os.kill(gateway.pid, signal.SIGUSR2)
    until("both replaced", lambda: len(gateway.log_events(event="worker_replaced")) == 2)
    load.some_more()
    load.finish()
    gateway.drain()

    assert load.refused == 0
    assert not set(before) & set(pids(gateway))
    arrived = serials(primary, load)
    assert load.accepted - set(arrived) == set(), "lost"
    assert sum(times - 1 for times in arrived.values()) == 0
    assert gateway.log_events(event="worker_died") == []


def test_what_kills_workers_is_parked_and_all_else_flows(play: Stage) -> None:
    primary = play.recording()
    primary.script(dot_delay=60)
    gateway = play.gateway(domain(primary.port, handover="spool"), gateway_keys="workers = 1\n")
    assert post(gateway.port, letter("poison")).code == 250

    for _ in range(3):

        def in_hand() -> bool:
            queues = status(gateway).get("queues", {})
            return sum(queue["running"] for queue in queues.values()) == 1

        until("on its way", in_hand)
        os.kill(pids(gateway)[0], signal.SIGKILL)
    primary.script()
    pids(gateway)

    (held,) = until("parked", lambda: gateway.listed("spool", "list", "--state", "held"))
    (event,) = gateway.log_events(event="held")
    assert event["cause"] == "crashes"
    assert [died["in_hand"] for died in gateway.log_events(event="worker_died")] == [[held["id"]]] * 3
    assert post(gateway.port, letter("innocent")).code == 250
    primary.one(b"innocent")
    # An operator who has looked at it may let it go.
    gateway.command("spool", "release", held["id"])
    until("delivered", lambda: not gateway.listed("spool", "list"))


def test_workers_do_not_outlive_a_supervisor_that_is_killed(play: Stage) -> None:
    gateway = play.gateway(domain(free_port()), gateway_keys=TWO)
    running = pids(gateway)
    with Wire(gateway.port) as wire:
        wire.hello()
        os.kill(gateway.pid, signal.SIGKILL)
        assert gateway.process is not None
        gateway.process.wait()
        # At once, as whoever watches over it would: ports and locks are free, or soon will be.
        gateway.start()
    assert not any(map(alive, running))
    assert not set(pids(gateway)) & set(running)


def test_the_nursery_may_die_as_well(play: Stage) -> None:
    primary = play.recording()
    gateway = play.gateway(domain(primary.port), gateway_keys=TWO)
    running = pids(gateway)
    (parent,) = {parent_of(pid) for pid in running}
    os.kill(parent, signal.SIGKILL)
    until("told", lambda: gateway.log_events(event="nursery_died"))
    assert post(gateway.port, letter("without a nursery")).code == 250
    os.kill(running[0], signal.SIGKILL)
    until("another in its place", lambda: pids(gateway)[0] != running[0])
    assert pids(gateway)[1] == running[1]
    assert gateway.stop() == 0
    assert not alive(running[1])


def test_a_stop_ends_all_and_a_second_signal_changes_nothing(play: Stage) -> None:
    primary = play.recording()
    primary.script(dot_delay=1)
    gateway = play.gateway(domain(primary.port), gateway_keys=TWO)
    running = pids(gateway)
    with Wire(gateway.port) as idle, Wire(gateway.port) as busy:
        idle.hello()
        busy.hello()
        busy.envelope("a@stranger.example", f"user@{DOMAIN}")
        busy.ask("DATA")
        busy.send(letter("in progress"))
        os.kill(gateway.pid, signal.SIGTERM)
        assert idle.reply().code == 421
        os.kill(gateway.pid, signal.SIGTERM)
        busy.send(b".\r\n")
        assert busy.reply().code == 250
    assert gateway.stop() == 0
    assert not any(map(alive, running))
    assert not list(gateway.data.glob("control*"))


def test_a_stop_takes_the_socket_from_no_worker_that_accepts(play: Stage) -> None:
    """One that was shut down under it would be a fault in its log."""
    gateway = play.gateway(domain(free_port()), gateway_keys=TWO)
    running = pids(gateway)
    port = f":{gateway.port:04X} 00000000:0000 0A "

    def listening() -> list[str]:
        return [line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines() if port in line]

    def held() -> bool:
        links = Path(f"/proc/{gateway.pid}/fd").iterdir()
        return f"socket:[{before[0]}]" in [os.readlink(each) for each in links if each.is_symlink()]

    before = listening()
    assert held()
    for pid in running:
        os.kill(pid, signal.SIGSTOP)
    os.kill(gateway.pid, signal.SIGTERM)
    until("the supervisor has let go of the socket", lambda: not held())
    assert listening() == before
    for pid in running:
        os.kill(pid, signal.SIGCONT)
    assert gateway.stop() == 0
    assert listening() == []


# --- a start ----------------------------------------------------------------------------------------------------------


def test_a_spool_in_use_stops_the_start(play: Stage) -> None:
    first = play.gateway(domain(free_port()), gateway_keys="workers = 0\n")
    second = play.gateway(
        domain(free_port()), gateway_keys=f"workers = 2\ndata = {first.data}-too\n", launcher="run", start=False
    )
    # Not the control socket, by which the first would be found at once.
    second_data = Path(f"{first.data}-too")
    (second_data / "spool").mkdir(parents=True, mode=0o700)
    (second_data / "spool" / "1").symlink_to(first.data / "spool" / "0")
    second.spawn(second.launch_command())
    assert second.process is not None
    assert second.process.wait(30) == 2
    assert "in use by process" in second.said()
    assert "Traceback" not in second.said()


@pytest.mark.root
def test_workers_are_nobody_and_keep_the_key_that_only_root_may_read(play: Stage, certificate: Certificate) -> None:
    primary = play.recording()
    gateway = play.gateway(
        domain(primary.port) + certificate.section,
        gateway_keys="workers = 1\nuser = nobody\n",
    )
    os.chmod(certificate.key, 0o600)
    os.kill(pids(gateway)[0], signal.SIGKILL)
    until("another", lambda: gateway.log_events(event="worker_died"))
    (pid,) = pids(gateway)

    for each in (gateway.pid, pid):
        (uids,) = [line for line in Path(f"/proc/{each}/status").read_text().splitlines() if line.startswith("Uid:")]
        assert "0" not in uids.split()[1:]
    with Wire(gateway.port) as wire:
        wire.hello()
        assert wire.ask("STARTTLS").code == 220
        wire.starttls(certificate.trusting())
        assert isinstance(wire.socket, ssl.SSLSocket)
    secret = certificate.key.read_bytes().splitlines()[1]
    for file in ("cmdline", "environ"):
        assert secret not in Path(f"/proc/{pid}/{file}").read_bytes()


def test_sockets_of_systemd_and_proxies_are_shared_too(play: Stage) -> None:
    primary = play.recording()
    proxied = free_port()
    gateway = play.gateway(
        domain(primary.port),
        gateway_keys=TWO,
        extra_listen=f"haproxy:tcp:{proxied}:interface=127.0.0.1 systemd:domain=INET:name=smtp",
        start=False,
    )
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        port = listening.getsockname()[1]
        launcher = (
            "import os,sys;os.environ.update(LISTEN_PID=str(os.getpid()),LISTEN_FDS='1',LISTEN_FDNAMES='smtp');"
            f"os.dup2({listening.fileno()},3);os.execv(sys.argv[1],sys.argv[1:])"
        )
        listening.set_inheritable(True)
        command = [sys.executable, "-c", launcher, *gateway.launch_command()]
        gateway.spawn(command, inherited=[listening.fileno()])
    gateway.wait_for_banner(gateway.port)
    running = pids(gateway)
    for number in (0, 1):
        with only(number, running):
            assert post(port, letter(f"socket unit {number}")).code == 250
            with Wire(proxied) as wire:
                wire.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 4321 25\r\n")
                wire.hello()
                wire.envelope("a@stranger.example", f"user@{DOMAIN}")
                assert wire.content(letter(f"proxied {number}")).code == 250
    until("all", lambda: primary.count() == 4)
    assert any("192.0.2.7" in mail.field("Received")[0] for mail in primary.received())


def test_twistd_starts_it_as_well(play: Stage) -> None:
    primary: RecordingPrimary = play.recording()
    gateway = play.gateway(domain(primary.port), gateway_keys=TWO, launcher="twistd")
    pids(gateway)
    assert post(gateway.port, letter("by twistd")).code == 250
    primary.one(b"by twistd")
    # twistd itself ends by the signal that it was stopped with.
    assert gateway.stop() in (0, -signal.SIGTERM)


def test_limits_hold_for_all_together(play: Stage) -> None:
    gateway = play.gateway(domain(free_port()) + "[smtp]\nmax_connections_per_ip = 4\n", gateway_keys=TWO)
    running = pids(gateway)
    with contextlib.ExitStack() as open_wires:
        for number in (0, 1):
            with only(number, running):
                wires = [open_wires.enter_context(Wire(gateway.port)) for _ in range(3)]
                assert [wire.reply().code for wire in wires] == [220, 220, 421]
        assert status(gateway)["connections"] == 4


def test_a_primary_gets_no_more_connections_from_two_than_from_one(play: Stage) -> None:
    primary = play.recording()
    primary.script(dot_delay=1)
    keys = "[delivery]\nmax_connections_per_host = 2\n"
    gateway = play.gateway(domain(primary.port, handover="spool") + keys, gateway_keys=TWO)
    running = pids(gateway)
    for number in (0, 1):
        with only(number, running):
            for _ in range(4):
                assert post(gateway.port, letter(f"by {number}")).code == 250
    most = 0
    while primary.count() < 8:
        connections = sum(host["connections"] for host in status(gateway)["primaries"])
        assert connections <= 2
        most = max(most, connections)
    assert most == 2, "each has one"


def test_a_throttle_is_one_for_all(play: Stage) -> None:
    primary = play.recording()
    gateway = play.gateway(domain(primary.port, handover="spool", messages_per_hour="4"), gateway_keys=TWO)
    running = pids(gateway)
    for number in (0, 1):
        with only(number, running):
            for _ in range(4):
                assert post(gateway.port, letter(f"by {number}")).code == 250

    until("as many as may be", lambda: primary.count() == 4)
    until("the rest waits", lambda: list(status(gateway)["throttled"]) == [DOMAIN])
    assert len(gateway.listed("spool", "list")) == 4
    assert primary.count() == 4


@pytest.mark.parametrize("at_once", [True, False])
def test_connections_are_spread_over_all(play: Stage, at_once: bool) -> None:
    limit = "[smtp]\nmax_connections_per_ip = 1000\n"
    gateway = play.gateway(domain(free_port()) + limit, gateway_keys=TWO)
    pids(gateway)
    with contextlib.ExitStack() as wires:
        opened = []
        for _ in range(100):
            wire = wires.enter_context(Wire(gateway.port))
            if not at_once:
                wire.reply()
            opened.append(wire)
        for wire in opened if at_once else ():
            wire.reply()
        connections = [row["connections"] for row in workers(gateway)]
    assert sum(connections) == 100
    # Whoever wakes first takes one; how even that is depends on who else wants the cores.
    assert min(connections) >= 5, connections
