"""Lists and names in DNS that lie, fail or go on without end: they cost a stranger nothing, and us neither time nor
questions without bound."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.rdatatype
import pytest
from fakes.name_server import NameServer
from fakes.resolver import Zone
from name_servers import Nsd, PlayedServer, Rbldnsd
from programs import DOMAIN, Gateway, RecordingPrimary, Stage, Wire, domain, free_port, letter, stage, until

STRICT = "strict.example"
LISTED, ABSENT = "198.51.100.7", "198.51.100.8"


def came(port: int, peer: str) -> Wire:
    """A connection that a trusted proxy says is from ``peer``."""
    wire = Wire(port)
    wire.send(f"PROXY TCP4 {peer} 192.0.2.25 4000 25\r\n".encode())
    return wire


# --- lists ------------------------------------------------------------------------------------------------------------

# What each says of everybody stands behind the star; those with a word about 127.0.0.2 alone pass their own test.
ALL = "* A {0}\n*.0.0.127 A {0}"
TESTED = "2.0.0.127 A 127.0.0.2\n"
LISTS = {
    "world": ALL.format("127.0.0.2"),
    "nothing": "",
    "typo": ALL.format("127.255.255.252"),
    "public": ALL.format("127.255.255.254"),
    "limit": ALL.format("127.255.255.255"),
    "later": TESTED + "* A 127.255.255.255",
    "mixed": TESTED + "* A 127.0.0.2\n* A 127.255.255.254",
    "parked": TESTED + "* A 192.0.2.80",
}
SUSPENDED = {
    "world": "lists everything, even 127.0.0.1",
    "nothing": "lists nothing, not even 127.0.0.2",
    "typo": "does not answer us: 127.255.255.252",
    "public": "does not answer us: 127.255.255.254",
    "limit": "does not answer us: 127.255.255.255",
    "dead": "REFUSED",
}
TROUBLE = SUSPENDED | {
    "later": "does not answer us: 127.255.255.255",
    "mixed": "does not answer us: 127.255.255.254",
    "parked": "answers 192.0.2.80, which is no code of a list",
}


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nsd]:
    """None of them knows the zone dead.test."""
    made = Nsd(tmp_path_factory.mktemp("lists"), {f"{name}.test": rows for name, rows in LISTS.items()}).start()
    yield made
    made.close()


def test_a_list_that_lists_the_world_or_does_not_answer_us_is_never_counted(play: Stage, lists: Nsd) -> None:
    checks = "".join(f"[check {name}]\nuse = dnsbl\nzone = {name}.test\nweight.listed = reject\n" for name in TROUBLE)
    primary, port = play.recording(), free_port()
    gateway = play.gateway(
        f"[dns]\nservers = 127.0.0.1:{lists.port}\n{domain(primary.port)}{checks}",
        gateway_keys="workers = 0\n",
        extra_listen=f"haproxy:tcp:{port}:interface=127.0.0.1",
    )

    def shown() -> dict[str, str]:
        """What an operator sees of each that is down."""
        [process] = json.loads(gateway.command("status", "--json"))["processes"]
        return {row["service"]: row["detail"] for row in process["services"] if row["state"] == "down"}

    # Whoever does not pass its test is known before anybody comes, and for as long as it does not.
    told = until("they are suspended", lambda: shown().keys() >= {f"{name}.test" for name in SUSPENDED} and shown())
    assert all(why in told[f"{name}.test"] for name, why in SUSPENDED.items()), told
    for number in range(3):
        with came(port, f"198.51.100.{number + 7}") as wire:
            wire.hello()
            wire.envelope("a@b.example", f"user@{DOMAIN}")
            answer = wire.content(letter(f"listed by all {number}"))
            assert answer.code == 250, answer
        mail = primary.one(f"listed by all {number}".encode())
        checks_told = mail.field("X-Spam-Checks")[0].split()
        assert sorted(checks_told) == sorted(f"{name}=error(0)" for name in TROUBLE)
        assert mail.field("X-Spam-Score") == ["0"]
        story = until("its story", lambda id=answer.id: gateway.command("explain", id, status=None))
        assert all(why in story for why in TROUBLE.values()), story


def test_a_list_that_begins_to_list_the_world_is_left_alone_until_it_is_well_again(play: Stage, tmp_path: Path) -> None:
    honest = f":127.0.0.2:listed\n127.0.0.2\n{LISTED}\n"
    rbldnsd = Rbldnsd(tmp_path, "bl.test", honest).start()
    primary, port = play.recording(), free_port()
    gateway = play.gateway(
        f"[dns]\nservers = 127.0.0.1:{rbldnsd.port}\n{domain(primary.port)}"
        "[check bl]\nuse = dnsbl\nzone = bl.test\nweight.listed = 30\n[level high]\nthreshold = 30\naction = reject\n",
        extra_listen=f"haproxy:tcp:{port}:interface=127.0.0.1",
        launcher="warped",
    )
    numbers = iter(range(1000))

    def sent(peer: str) -> tuple[int, str]:
        """The code, and what the list was worth."""
        marker = f"list {next(numbers)}"
        with came(port, peer) as wire:
            wire.hello()
            wire.envelope("a@b.example", f"user@{DOMAIN}")
            code = wire.content(letter(marker)).code
        return code, primary.one(marker.encode()).field("X-Spam-Checks")[0] if code == 250 else ""

    def listing(entries: str) -> None:
        rbldnsd.end()
        (tmp_path / "list").write_text("$SOA 60 ns.test root.test 0 60 60 60 60\n" + entries)
        rbldnsd.start()
        # Past the next test of the list, and what is remembered of its answers.
        gateway.pass_time(3700)

    with contextlib.closing(rbldnsd):
        assert (sent(LISTED)[0], sent(ABSENT)) == (550, (250, "bl=absent(0)"))
        listing(honest + "0.0.0.0/1\n128.0.0.0/1\n")
        assert (sent(LISTED), sent(ABSENT)) == ((250, "bl=error(0)"), (250, "bl=error(0)"))
        assert "bl.test" in gateway.command("status")
        listing(honest)
        assert (sent(LISTED)[0], sent(ABSENT)) == (550, (250, "bl=absent(0)"))


# --- names ------------------------------------------------------------------------------------------------------------

LONGEST = ".".join(["y" * 63] * 3 + ["y" * 61])
WELL, LONG, MANY, HORDE, ODD = (f"198.51.100.{number}" for number in range(20, 25))


def arpa(peer: str) -> str:
    return ".".join(reversed(peer.split("."))) + ".in-addr.arpa"


LISTS_ASKED = 5
SELF_TESTS = [f"{number}.0.0.127.bl{which}.test" for which in range(LISTS_ASKED) for number in (1, 2)]
NAMES: Zone = {
    **{name: {"A": ["127.0.0.2"]} for name in SELF_TESTS[1::2]},
    arpa(WELL): {"PTR": ["well.test"]},
    "well.test": {"A": [WELL]},
    arpa(LONG): {"PTR": [LONGEST, *(f"{number:03}{LONGEST[3:]}" for number in range(40))]},
    arpa(MANY): {"PTR": [f"n{number}.pool.test" for number in range(400)]},
    arpa(HORDE): {"PTR": [f"n{number}.horde.test" for number in range(600)]},
    arpa(ODD): {"PTR": [r"a\032b\000\010.test", r"<script>.test", r"\255\254.test", "-.test", "1.2.3.4", "x"]},
}


class Troubled(NameServer):
    """``trouble``: the mode in which names of addresses are asked for; all else is well. ``late``: nothing is said
    until it is set."""

    trouble = ""

    def __init__(self, zone: Zone) -> None:
        super().__init__(zone)
        self.late = threading.Event()
        self.late.set()

    def reply(self, octets: bytes, transport: str = "udp") -> list[bytes]:
        (question,) = dns.message.from_wire(octets).question
        self.mode = self.trouble if question.rdtype == dns.rdatatype.PTR else ""
        answers = super().reply(octets, transport)
        return answers if self.late.wait(60) else []


class Names:
    """A gateway that asks for names, lists and SPF, and whose time we let pass."""

    def __init__(self, play: Stage) -> None:
        self.server = PlayedServer()
        self.played = self.server.played = Troubled(NAMES)
        self.primary: RecordingPrimary = play.recording()
        self.port = free_port()
        lists = "".join(f"[check bl{number}]\nuse = dnsbl\nzone = bl{number}.test\n" for number in range(LISTS_ASKED))
        troubled = {"weight.rdns.error": "defer", "weight.rdns.timeout": "defer"}
        self.gateway: Gateway = play.gateway(
            f"[dns]\nservers = 127.0.0.1:{self.server.port}\n{domain(self.primary.port)}"
            f"{domain(self.primary.port, STRICT, **troubled)}{lists}"
            "[check rdns]\nuse = rdns\n[check helo]\nuse = helo\n[check spf]\nuse = spf\n",
            extra_listen=f"haproxy:tcp:{self.port}:interface=127.0.0.1",
            launcher="warped",
        )

    def codes(self, peer: str, seconds: float) -> list[int]:
        """Of what is said in one go, the answers that are there when so many seconds have passed: nobody waits here."""
        heard = b""
        with came(self.port, peer) as wire:
            wire.send(
                b"EHLO well.test\r\nMAIL FROM:<a@well.test>\r\n"
                + b"".join(f"RCPT TO:<user@{name}>\r\n".encode() for name in (DOMAIN, STRICT))
            )
            # It has come before time begins to pass.
            self.gateway.pass_time(0.001)
            self.gateway.pass_time(seconds)
            wire.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while received := wire.socket.recv(65536):
                    heard += received
        return [int(line[:3]) for line in heard.split(b"\r\n")[:-1] if line[3:4] == b" "]


@pytest.fixture(scope="module")
def names() -> Iterator[Names]:
    with stage() as play:
        made = Names(play)
        with contextlib.closing(made.server):
            yield made
        assert made.gateway.faults() == []


@pytest.mark.parametrize("trouble", ["refused", "servfail", "silent", "garbage", "forged", "late"])
def test_trouble_with_a_name_is_over_within_ten_seconds_and_puts_off_where_that_is_said(
    names: Names, trouble: str
) -> None:
    number = 100 + ["refused", "servfail", "silent", "garbage", "forged", "late"].index(trouble)
    if trouble == "late":
        names.played.late.clear()
    else:
        names.played.trouble = trouble
    try:
        assert names.codes(f"198.51.100.{number}", 10) == [220, 250, 250, 250, 451]
    finally:
        names.played.trouble = ""
        names.played.late.set()
    # Servers that were dead are asked again after a while, and what they said too late is nobody's answer.
    until("all is well again", lambda: names.codes(WELL, 60) == [220, 250, 250, 250, 250])


@pytest.mark.parametrize(
    ("peer", "outcome"),
    # Nobody reads more than some hundreds of records; then nothing is known, which is worth what the INI says.
    [(LONG, "unconfirmed"), (MANY, "unconfirmed"), (HORDE, "error"), (ODD, "unconfirmed")],
    ids=["255 octets", "400 names", "600 names", "no host names"],
)
def test_names_without_end_cost_few_questions(names: Names, peer: str, outcome: str) -> None:
    # What is too long for a datagram is asked for again by TCP.
    names.played.trouble = "truncated"
    names.played.asked.clear()
    try:
        with came(names.port, peer) as wire:
            wire.hello("well.test")
            assert [answer.code for answer in wire.envelope("a@well.test", f"user@{DOMAIN}")] == [250, 250]
            assert wire.content(letter(f"named {peer}")).code == 250
    finally:
        names.played.trouble = ""
    mail = names.primary.one(f"named {peer}".encode())
    # Its time may be over first where the machine has other things to do.
    assert re.search(rf"rdns=(?:{outcome}|timeout)\(0\)", mail.field("X-Spam-Checks")[0])
    assert mail.field("Received")[0].startswith(f"from well.test ([{peer}])")
    asked = [(name, type) for name, type, _ in names.played.asked]
    # Three times by either way at most.
    assert asked.count((arpa(peer), "PTR")) <= 6
    listed = [name for name, type in asked if name.startswith(arpa(peer).removesuffix("in-addr.arpa")) and type == "A"]
    assert len(set(listed)) == LISTS_ASKED and len(listed) <= 3 * LISTS_ASKED
    # Beside these ten of the names at most, what the client calls itself, and SPF.
    others = {name for name, _ in asked} - {*listed, arpa(peer), "well.test"}
    assert len(others - set(SELF_TESTS)) <= 10, others
