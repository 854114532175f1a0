"""Greylisting as strangers see it, who come from many addresses: a network namespace of its own holds them and the
gateway. Pools pass, by network and by the domain that SPF confirms, null senders pass, good mail and correspondents
need not wait, addresses are only text, an operator lets one through, and a damaged store refuses nobody."""

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
from name_servers import PlayedServer
from programs import DOMAIN, PATIENCE, Answer, Gateway, Wire, domain, letter, need, stage, until
from requiring import impossible

pytestmark = pytest.mark.root

SERVER = "192.0.2.1"
POOL = ("198.51.100.10", "198.51.100.77")
ALONE = "203.0.113.5"
# Sends good mail, and then a bad one; nobody else is in its network.
REGULAR = "192.0.2.77"
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

[check pills]
use = headers
header = Subject
value = pills
weight.match = reject
"""
# One service in many networks, which SPF confirms; nobody waits long enough by himself.
BY_DOMAIN = """
[dns]
servers = 127.0.0.1:{port}
[relay]
allow = 203.0.113.200
[greylisting]
key = domain
block = 30m
auto_allow = 2
[check spf]
use = spf
[check grey]
use = greylist
"""
SERVICE = ("198.51.100.10", "203.0.113.5", "2001:db8:1::10")
NAMES = {
    "service.example": {"TXT": ["v=spf1 ip4:198.51.100.0/24 ip4:203.0.113.5 ip6:2001:db8:1::/48 -all"]},
    "far.example": {"TXT": ["v=spf1 ip4:198.51.100.0/24 -all"]},
}


class Namespace:
    """A network of its own whose loopback has all the addresses there are."""

    def __init__(self) -> None:
        self.name = f"inboundmx-{os.getpid()}"
        self._ip = need("ip")

    def __enter__(self) -> Self:
        self._run("netns", "add", self.name)
        self._run("-n", self.name, "link", "set", "lo", "up")
        for address in (SERVER, *POOL, ALONE, REGULAR, "203.0.113.200"):
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

    def __init__(self, folder: Path, network: Namespace, more: str = SECTIONS, keys: str = "") -> None:
        self.network = network
        sections = domain(9) + domain(9, "open.example", greylisting="no") + more
        super().__init__(folder, sections, gateway_keys=keys, extra_listen="", launcher="run")
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

    def send(self, source: str, sender: str, subject: str, recipient: str = f"user@{DOMAIN}") -> Answer:
        """The answer to a whole message."""
        with Stranger(self.network, source, self.port) as wire:
            wire.hello()
            assert [answer.code for answer in wire.envelope(sender, recipient)] == [250, 250]
            return wire.content(letter(subject))

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
    """What would be SQL elsewhere, or a pattern."""
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


def test_good_mail_spares_a_client_until_a_bad_one(gateway: SecludedGateway) -> None:
    gateway.passes(REGULAR, "regular@sender.example")
    for number in range(5):
        assert gateway.send(REGULAR, "regular@sender.example", f"good {number}").code == 250
    answer = gateway.send(REGULAR, "other@else.example", "good as well")
    assert "192.0.2.0/24 is auto-allowed after 5 good deliveries" in gateway.command("explain", answer.id)
    assert gateway.send(REGULAR, "other@else.example", "pills").code == 554
    assert gateway.rcpt(REGULAR, "third@else.example").code == 451


# --- by the sender's domain, with two workers ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(network: Namespace) -> Iterator[SecludedGateway]:
    names = network.within(lambda: PlayedServer(NAMES))
    try:
        with stage() as play:
            sections = BY_DOMAIN.format(port=names.port)
            made = play._keep(SecludedGateway(play._room("pair"), network, sections, "workers = 2\n"))
            made.start()
            yield made
            assert made.faults() == []
    finally:
        names.close()


def test_a_service_in_many_networks_is_let_through_once_for_all_workers(pair: SecludedGateway) -> None:
    sender = "ann@service.example"
    answer = pair.rcpt(SERVICE[0], sender)
    assert answer.code == 451
    assert "service.example (SPF) may try again in 30 minutes" in pair.command("explain", answer.id)
    assert [row["state"] for row in pair.listed("greylist", "release", answer.id)] == ["released"]
    until("it is on record", lambda: "let through the greylist by" in pair.command("explain", answer.id))
    # From any of its networks, and by whichever worker.
    for source in SERVICE * 3:
        assert pair.rcpt(source, sender).code == 250, source
    assert pair.rcpt(POOL[1], sender, "else@open.example").code == 250
    assert pair.rcpt(SERVICE[1], "bob@service.example").code == 451
    # Nobody else speaks for it.
    assert pair.rcpt("203.0.113.200", "").code == 250
    (row,) = until("it is on the disk", lambda: pair.listed("greylist", "list", "--state", "known", sender))
    assert (row["domain"], row["network"]) == ("service.example", None)
    events = until("it is in the log", lambda: pair.log_events(event="greylist_released", id=answer.id))
    assert [event["count"] for event in events] == [1] and events[0]["asked_by"]


def test_whom_it_does_not_confirm_is_known_by_its_network(pair: SecludedGateway) -> None:
    assert pair.rcpt(REGULAR, "ann@else.example").code == 451
    # The worker that is asked need not be the one that saw it.
    (row,) = until("it is on the disk", lambda: pair.listed("greylist", "list", "ann@else.example"))
    assert (row["network"], row["state"]) == ("192.0.2.0/24", "waiting")
    (row,) = pair.listed("greylist", "release", "ann@else.example")
    assert row["state"] == "released"
    assert pair.rcpt(REGULAR, "ann@else.example").code == 250


def test_good_mail_of_a_service_spares_all_of_its_senders(pair: SecludedGateway) -> None:
    sender = "good@service.example"
    assert pair.rcpt(SERVICE[0], sender).code == 451
    assert pair.listed("greylist", "release", sender)
    assert pair.send(SERVICE[0], sender, "good").code == 250
    assert pair.listed("greylist", "list", "--state", "auto-allowed") == []

    def another() -> list[dict[str, Any]]:
        # What one worker counted, the other sees in a moment; of two that count at the same one neither may be enough.
        assert pair.send(SERVICE[1], sender, "good as well").code == 250
        return pair.listed("greylist", "list", "--state", "auto-allowed")

    (row,) = until("it is enough", another)
    assert (row["domain"], row["network"]) == ("service.example", None) and row["deliveries"] >= 2
    until("a sender never seen passes", lambda: pair.rcpt(SERVICE[2], "never.seen@service.example").code == 250)


def test_whom_our_users_write_to_may_answer_at_once(pair: SecludedGateway) -> None:
    friend = "friend@far.example"
    assert pair.send("203.0.113.200", f"user@{DOMAIN}", "how are you", friend).code == 250
    until("it is remembered", lambda: pair.listed("greylist", "list", "--state", "written-to", friend))
    assert pair.rcpt(REGULAR, friend).code == 451, "SPF does not confirm this one"
    answer = pair.send(SERVICE[0], friend, "well, thanks")
    assert f"a user of {DOMAIN} has written to {friend}" in pair.command("explain", answer.id)
    assert pair.rcpt(SERVICE[0], "stranger@far.example").code == 451


def test_a_damaged_store_refuses_nobody_for_good(gateway: SecludedGateway) -> None:
    gateway.stop()
    (gateway.data / "state.sqlite").write_bytes(b"no database " * 1000)
    gateway.start()
    assert gateway.rcpt(ALONE, "damaged@sender.example").code in (250, 451)
    gateway.passes(ALONE, "damaged@sender.example")
    assert len(gateway.log_events(event="state_damaged")) == 1
    assert list(gateway.data.glob("state.sqlite.damaged-*"))
