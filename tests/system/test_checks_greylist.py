"""Greylisting as strangers see it, who come from many addresses: a network namespace of its own holds them and the
gateway. Threat 24: pools pass, null senders pass, addresses are only text, and a damaged store refuses nobody."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from programs import DOMAIN, PATIENCE, Answer, Gateway, Wire, domain, letter, need, stage, until
from requiring import impossible

pytestmark = pytest.mark.root

SERVER = "192.0.2.1"
POOL = ("198.51.100.10", "198.51.100.77")
ALONE = "203.0.113.5"
POOL6 = ("2001:db8:1::10", "2001:db8:1::77")
SERVER6 = "2001:db8::1"
_NEW_NETWORK = 0x40000000

SECTIONS = """
[greylisting]
block = 1s
pass = 1h

[check grey]
use = greylist
skip_for = 203.0.113.200
"""


class Namespace:
    """A network of its own whose loopback has all the addresses there are."""

    def __init__(self) -> None:
        self.name = f"inboundmx-{os.getpid()}"
        self._ip = need("ip")

    def __enter__(self) -> Self:
        self._run("netns", "add", self.name)
        self._run("-n", self.name, "link", "set", "lo", "up")
        for address in (SERVER, *POOL, ALONE, "203.0.113.200"):
            self._run("-n", self.name, "address", "add", f"{address}/32", "dev", "lo")
        for address in (SERVER6, *POOL6):
            self._run("-n", self.name, "address", "add", f"{address}/128", "dev", "lo", "nodad")
        return self

    def __exit__(self, *_: object) -> None:
        self._run("netns", "delete", self.name)

    def _run(self, *arguments: str) -> None:
        done = subprocess.run([self._ip, *arguments], capture_output=True, text=True, check=False)
        if done.returncode and arguments[:2] == ("netns", "add"):
            impossible(f"no network namespace can be made here: {done.stderr.strip()}")
        assert done.returncode == 0, (arguments, done.stderr)

    def within(self, call: Callable[[], Any]) -> Any:
        """What ``call`` gives in a thread of this network; a socket made there stays in it wherever it is used."""
        result: list[Any] = []

        def work() -> None:
            try:
                with open(f"/run/netns/{self.name}") as network:
                    library = ctypes.CDLL(None, use_errno=True)
                    if library.setns(network.fileno(), _NEW_NETWORK) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                result.append(call())
            except BaseException as error:
                result.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if isinstance(result[0], BaseException):
            raise result[0]
        return result[0]


class Stranger(Wire):
    """A client at an address of one's choice."""

    def __init__(self, network: Namespace, source: str, port: int) -> None:
        server = SERVER6 if ":" in source else SERVER
        self.socket = network.within(
            lambda: socket.create_connection((server, port), PATIENCE, source_address=(source, 0))
        )
        self._buffer = b""


class SecludedGateway(Gateway):
    """The gateway in that network, its primary nowhere: what it takes it keeps."""

    def __init__(self, folder: Path, network: Namespace) -> None:
        self.network = network
        sections = domain(9) + domain(9, "open.example", greylisting="no") + SECTIONS
        super().__init__(folder, sections, gateway_keys="", extra_listen="", launcher="run")
        listen = f"tcp:{self.port}:interface={SERVER} tcp6:{self.port}:interface={SERVER6.replace(':', chr(92) + ':')}"
        ours = self.config.read_text().replace(f"tcp:{self.port}:interface=127.0.0.1", listen)
        self.config.write_text(ours)

    def launch_command(self) -> list[str]:
        return [need("ip"), "netns", "exec", self.network.name, sys.executable, "-m", "inboundmx",
                "--config", str(self.config), "run"]  # fmt: skip

    def wait_for_banner(self, port: int) -> None:
        def greets() -> bool:
            if not self.running:
                pytest.fail(f"{self.name} ended instead of greeting\n{self.said()}")
            with contextlib.suppress(OSError), Stranger(self.network, ALONE, port) as wire:
                return wire.reply().code == 220
            return False

        until("the gateway greets", greets)

    def rcpt(
        self, source: str, sender: str = "ann@sender.example", recipient: str = f"user@{DOMAIN}"
    ) -> Answer:
        """The answer to the recipient alone."""
        with Stranger(self.network, source, self.port) as wire:
            wire.hello()
            return wire.envelope(sender, recipient)[1]

    def passes(self, source: str, sender: str = "ann@sender.example") -> None:
        """Tries until it is let in, as a mail server would, if more often."""
        until(f"{sender} from {source} passes", lambda: self.rcpt(source, sender).code == 250)


@pytest.fixture(scope="module")
def network() -> Iterator[Namespace]:
    with Namespace() as made:
        yield made


@pytest.fixture(scope="module")
def gateway(network: Namespace) -> Iterator[SecludedGateway]:
    with stage() as play:
        made = play._keep(SecludedGateway(play._room("gateway"), network))
        made.start()
        yield made
        assert made.faults() == []


def test_a_stranger_is_put_off_and_told_when_to_come_back(gateway: SecludedGateway) -> None:
    answer = gateway.rcpt(ALONE, "first@sender.example")
    assert str(answer).startswith(
        "451 4.7.1 mail not accepted yet by check grey, greylisted, please try again in 1 minute "
    )
    story = gateway.command("explain", answer.id)
    assert "grey" in story and "new" in story
    gateway.passes(ALONE, "first@sender.example")
    assert gateway.rcpt(ALONE, "first@sender.example").code == 250


def test_a_retry_from_another_member_of_the_pool_passes(gateway: SecludedGateway) -> None:
    for pool in (POOL, POOL6):
        assert gateway.rcpt(pool[0], "pool@sender.example").code == 451
        gateway.passes(pool[1], "pool@sender.example")
        assert gateway.rcpt(pool[0], "pool@sender.example").code == 250
    assert gateway.rcpt(ALONE, "pool@sender.example").code == 451


def test_who_is_exempt(gateway: SecludedGateway) -> None:
    assert gateway.rcpt(ALONE, "").code == 250
    assert gateway.rcpt(ALONE, "e@sender.example", f"postmaster@{DOMAIN}").code == 250
    assert gateway.rcpt(ALONE, "e@sender.example", f"abuse@{DOMAIN}").code == 250
    assert gateway.rcpt(ALONE, "e@sender.example", "user@open.example").code == 250
    assert gateway.rcpt("203.0.113.200", "e@sender.example").code == 250
    assert gateway.rcpt(ALONE, "e@sender.example").code == 451


def test_put_off_recipients_do_not_count_as_bad_ones(gateway: SecludedGateway) -> None:
    with Stranger(gateway.network, ALONE, gateway.port) as wire:
        wire.hello()
        answers = wire.envelope("many@sender.example", *(f"user{number}@{DOMAIN}" for number in range(60)))
        assert [answer.code for answer in answers] == [250, *[451] * 60]
        # The session goes on, with those who may have mail at once.
        assert wire.ask(f"RCPT TO:<postmaster@{DOMAIN}>").code == 250
        assert wire.content(letter("for postmaster")).code == 250


def test_mail_that_passed_is_taken_with_its_outcome(gateway: SecludedGateway) -> None:
    gateway.rcpt(ALONE, "whole@sender.example")
    gateway.passes(ALONE, "whole@sender.example")
    with Stranger(gateway.network, ALONE, gateway.port) as wire:
        wire.hello()
        wire.envelope("whole@sender.example", f"user@{DOMAIN}")
        answer = wire.content(letter("whole"))
    assert answer.code == 250
    assert "known" in gateway.command("explain", answer.id)


ODD = ("\"x'||(select 1)||'\"@a.test", "\"%'; drop table fact;--\"@a.test", "100%@a.test")


def test_addresses_are_only_text(gateway: SecludedGateway) -> None:
    """Threat 20."""
    for sender in ODD:
        assert gateway.rcpt(ALONE, sender).code == 451, sender
    for sender in ODD:
        gateway.passes(ALONE, sender)
    listed = gateway.listed("greylist", "list", "%")
    assert {row["sender"] for row in listed} == {ODD[1], "#%@a.test"}
    assert len(gateway.listed("greylist", "list", "a.test")) == 3


def test_forgotten_means_new(gateway: SecludedGateway) -> None:
    gateway.rcpt(ALONE, "forgotten@sender.example")
    gateway.passes(ALONE, "forgotten@sender.example")
    assert gateway.command("greylist", "forget", "forgotten@") == "1 forgotten\n"
    assert gateway.rcpt(ALONE, "forgotten@sender.example").code == 451
    events = until("it is in the log", lambda: gateway.log_events(event="greylist_forgotten"))
    # Each worker tells what it forgot.
    assert sum(event["count"] for event in events) == 1 and events[0]["asked_by"]


def test_what_passed_is_known_after_a_kill(gateway: SecludedGateway) -> None:
    gateway.rcpt(ALONE, "killed@sender.example")
    gateway.passes(ALONE, "killed@sender.example")
    until(
        "it is on the disk",
        lambda: [row["state"] for row in gateway.listed("greylist", "list", "killed@")] == ["known"],
    )
    gateway.kill9()
    gateway.start()
    assert gateway.rcpt(ALONE, "killed@sender.example").code == 250


def test_a_damaged_store_refuses_nobody_for_good(gateway: SecludedGateway) -> None:
    gateway.stop()
    (gateway.data / "state.sqlite").write_bytes(b"no database " * 1000)
    gateway.start()
    assert gateway.rcpt(ALONE, "damaged@sender.example").code in (250, 451)
    gateway.passes(ALONE, "damaged@sender.example")
    assert len(gateway.log_events(event="state_damaged")) == 1
    assert list(gateway.data.glob("state.sqlite.damaged-*"))
