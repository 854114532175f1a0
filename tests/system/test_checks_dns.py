"""The resolver and the checks rdns, helo and dnsbl against real name servers, good and bad ones."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fakes.resolver import Zone
from name_servers import Nsd, PlayedServer, Rbldnsd, looker_up
from programs import (
    DOMAIN,
    Answer,
    Gateway,
    Received,
    RecordingPrimary,
    Stage,
    Wire,
    domain,
    free_port,
    letter,
    until,
)

ZONE = "\n".join(
    [
        "ns A 127.0.0.1",
        "mail A 192.0.2.1",
        "mail AAAA 2001:db8::1",
        "@ MX 10 Mail",
        "www CNAME mail",
        "out CNAME elsewhere.example.",
        '@ TXT "v=spf1 " "mx -all"',
        *(f'big TXT "{"x" * 200}{number}"' for number in range(20)),
    ]
)
REVERSE = "1 PTR mail.zone.test.\n2 PTR other.zone.test.\n3 PTR evil\\032<script>.zone.test.\n"


def look_up(servers: str, *questions: str) -> dict[str, Any]:
    done = subprocess.run([*looker_up(), servers, *questions], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert isinstance(told, dict)
    return told


@pytest.fixture(scope="module")
def nsd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nsd]:
    zones = {"zone.test": ZONE, "2.0.192.in-addr.arpa": REVERSE}
    made = Nsd(tmp_path_factory.mktemp("nsd"), zones).start()
    yield made
    made.close()


def test_what_an_authority_says(nsd: Nsd) -> None:
    told = look_up(
        f"127.0.0.1:{nsd.port}", "mail.zone.test/A", "MAIL.zone.test./AAAA", "zone.test/MX", "zone.test/TXT",
        "www.zone.test/A", "nobody.zone.test/A", "mail.zone.test/MX", "big.zone.test/TXT", "1.2.0.192.in-addr.arpa/PTR",
        "3.2.0.192.in-addr.arpa/PTR", "elsewhere.example/A", "out.zone.test/A", "zone.test/SOA", "..bad../A",
    )  # fmt: skip
    big = told.pop("big.zone.test/TXT")
    assert sorted(big["rows"]) == sorted("x" * 200 + str(number) for number in range(20))
    # What this server has no zone for, it refuses to say.
    assert "REFUSED" in told.pop("elsewhere.example/A")["unavailable"]
    assert "REFUSED" in told.pop("out.zone.test/A")["unavailable"]
    assert told == {
        "mail.zone.test/A": {"rows": ["192.0.2.1"], "exists": True},
        "MAIL.zone.test./AAAA": {"rows": ["2001:db8::1"], "exists": True},
        "zone.test/MX": {"rows": [[10, "mail.zone.test"]], "exists": True},
        "zone.test/TXT": {"rows": ["v=spf1 mx -all"], "exists": True},
        "www.zone.test/A": {"rows": ["192.0.2.1"], "exists": True},
        "nobody.zone.test/A": {"rows": [], "exists": False},
        "mail.zone.test/MX": {"rows": [], "exists": True},
        "1.2.0.192.in-addr.arpa/PTR": {"rows": ["mail.zone.test"], "exists": True},
        "3.2.0.192.in-addr.arpa/PTR": {"rows": [r"evil\032<script>.zone.test"], "exists": True},
        "zone.test/SOA": {"rows": [["ns.zone.test", "root.zone.test", 1, 60, 60, 60, 60]], "exists": True},
        "..bad../A": {"rows": [], "exists": False},
    }


@pytest.fixture
def played() -> Iterator[Any]:
    servers: list[PlayedServer] = []

    def play(*arguments: Any, **options: Any) -> PlayedServer:
        servers.append(PlayedServer(*arguments, **options))
        return servers[-1]

    yield play
    for server in servers:
        server.close()


A_TEST: Zone = {"a.test": {"A": ["192.0.2.1"], "TXT": ["y" * 3000]}}


@pytest.mark.parametrize("mode", ["", "truncated", "poisoned", "plain"])
def test_a_right_answer_is_found(played: Any, mode: str) -> None:
    told = look_up(f"127.0.0.1:{played(A_TEST, mode).port}", "a.test/A", "a.test/TXT", "b.test/A")
    assert told == {
        "a.test/A": {"rows": ["192.0.2.1"], "exists": True},
        "a.test/TXT": {"rows": ["y" * 3000], "exists": True},
        "b.test/A": {"rows": [], "exists": False},
    }


@pytest.mark.parametrize("mode", ["silent", "servfail", "garbage", "forged"])
def test_the_next_server_answers_where_one_does_not(played: Any, mode: str) -> None:
    servers = f"127.0.0.1:{played(A_TEST, mode).port} 127.0.0.1:{played(A_TEST).port}"
    assert look_up(servers, "a.test/A") == {"a.test/A": {"rows": ["192.0.2.1"], "exists": True}}
    assert "unavailable" in look_up(servers.split()[0], "a.test/A")["a.test/A"]


def test_nobody_listening_is_soon_known(played: Any) -> None:
    told = look_up(f"127.0.0.1:{free_port()}", "a.test/A")
    assert "refused" in told["a.test/A"]["unavailable"]
    told = look_up(f"127.0.0.1:{free_port()} 127.0.0.1:{played(A_TEST).port}", "a.test/A")
    assert told == {"a.test/A": {"rows": ["192.0.2.1"], "exists": True}}


# --- the whole gateway ------------------------------------------------------------------------------------------------

CHECKS = """
[check rdns]
use = rdns
weight.none = 1
[check helo]
use = helo
[check bl]
use = dnsbl
zone = bl.test
weight.listed = 50
[check words]
use = dnsbl
zone = bl.test
codes = 127.0.0.2=exploited 127.0.0.10=policy
weight.policy = 2
"""


class Gate:
    """A gateway that believes the PROXY line, so that clients may come from anywhere."""

    def __init__(self, play: Stage, dns_port: int, sections: str = CHECKS, timeout: str = "2s") -> None:
        self.primary: RecordingPrimary = play.recording()
        self.port = free_port()
        self.gateway: Gateway = play.gateway(
            f"[dns]\nservers = 127.0.0.1:{dns_port}\ntimeout = {timeout}\n"
            f"{domain(self.primary.port)}{sections}",
            extra_listen=f"haproxy:tcp:{self.port}:interface=127.0.0.1",
        )

    def post(self, peer: str, marker: str, hello: str = "mail.zone.test", words: bytes = b"Hello.\r\n") -> Answer:
        with Wire(self.port) as wire:
            family = "TCP6 2001:db8::25" if ":" in peer else "TCP4 192.0.2.25"
            version, ours = family.split()
            wire.send(f"PROXY {version} {peer} {ours} 4000 25\r\n".encode())
            assert wire.reply().code in (220, 554)
            for answer in (wire.ask(f"EHLO {hello}"), *wire.envelope("someone@stranger.example", f"user@{DOMAIN}")):
                if answer.code >= 400:
                    return answer
            return wire.content(letter(marker, words))

    def outcomes(
        self, peer: str, marker: str, hello: str = "mail.zone.test", words: bytes = b"Hello.\r\n"
    ) -> tuple[dict[str, str], Received]:
        """What X-Spam-Checks says of a message that was delivered."""
        answer = self.post(peer, marker, hello, words)
        assert answer.code == 250, answer
        mail = self.primary.one(f"Subject: {marker}\r\n".encode())
        words = mail.field("X-Spam-Checks")[0].split()
        return dict(word.partition("(")[0].split("=") for word in words), mail


def test_rdns_and_helo_of_clients_from_many_addresses(play: Stage, nsd: Nsd) -> None:
    gate = Gate(play, nsd.port, "[check rdns]\nuse = rdns\n[check helo]\nuse = helo\n")
    found, mail = gate.outcomes("192.0.2.1", "confirmed")
    assert found == {"rdns": "confirmed", "helo": "ok"}
    assert mail.field("Received")[0].startswith("from mail.zone.test (mail.zone.test [192.0.2.1])")
    found, mail = gate.outcomes("192.0.2.2", "unconfirmed", "nobody.zone.test")
    assert found == {"rdns": "unconfirmed", "helo": "unresolvable"}
    assert mail.field("Received")[0].startswith("from nobody.zone.test ([192.0.2.2])")
    found, mail = gate.outcomes("192.0.2.3", "hostile", "[192.0.2.3]")
    assert found == {"rdns": "unconfirmed", "helo": "literal"}
    assert b"script" not in mail.head
    assert gate.outcomes("192.0.2.9", "none", "mx.gateway.example")[0] == {"rdns": "none", "helo": "our_name"}
    # A server that has no such zone refuses to say: nothing is known, and nothing is held against anybody.
    assert gate.outcomes("2001:db8::1", "elsewhere", "a.elsewhere.example")[0] == {"rdns": "error", "helo": "error"}


def test_a_list_of_rbldnsd(play: Stage, tmp_path: Path) -> None:
    entries = ":127.0.0.2:listed\n127.0.0.2\n198.51.100.0/24\n:127.0.0.10:policy\n203.0.113.0/24\n!203.0.113.5\n"
    rbldnsd = Rbldnsd(tmp_path, "bl.test", entries).start()
    try:
        gate = Gate(play, rbldnsd.port, CHECKS.replace("50", "3"))
        listed = gate.outcomes("198.51.100.7", "one")[0]
        policy = gate.outcomes("203.0.113.4", "two")[0]
        absent = gate.outcomes("203.0.113.5", "three")[0]
        six = gate.outcomes("2001:db8::1", "four")[0]
    finally:
        rbldnsd.close()
    assert [found["bl"] for found in (listed, policy, absent, six)] == ["listed", "listed", "absent", "absent"]
    assert [found["words"] for found in (listed, policy, absent, six)] == ["exploited", "policy", "absent", "absent"]


LISTED: Zone = {
    "2.0.0.127.bl.test": {"A": ["127.0.0.2"]},
    "7.100.51.198.bl.test": {"A": ["127.0.0.2"]},
    "mail.zone.test": {"A": ["198.51.100.9"]},
}


def test_a_listed_client_is_refused_and_a_list_that_lists_the_world_is_not_believed(play: Stage, played: Any) -> None:
    server = played(LISTED)
    gate = Gate(play, server.port)
    assert gate.post("198.51.100.7", "listed").code == 550
    assert gate.outcomes("198.51.100.8", "absent")[0]["bl"] == "absent"
    world = played(LISTED, "listall")
    assert Gate(play, world.port).outcomes("198.51.100.8", "world")[0]["bl"] == "error"
    trouble = played(LISTED, "error255")
    assert Gate(play, trouble.port).outcomes("198.51.100.8", "trouble")[0]["bl"] == "error"


def test_lists_that_are_not_to_be_believed_are_suspended_and_come_back(play: Stage, played: Any) -> None:
    zones = ("world.test", "denies.test", "hole.test")
    checks = "".join(f"[check {zone[:-5]}]\nuse = dnsbl\nzone = {zone}\nweight.listed = 50\n" for zone in zones)
    client = "7.100.51.198"
    well: Zone = {f"{labels}.{zone}": {"A": ["127.0.0.2"]} for zone in zones for labels in (client, "2.0.0.127")}
    server = played(
        {**well, "1.0.0.127.world.test": {"A": ["127.0.0.2"]}, "2.0.0.127.denies.test": {"A": ["127.255.255.254"]}},
        dead=[".hole.test"],
    )
    gate = Gate(play, server.port, checks, timeout="1s")

    def down() -> dict[str, str]:
        [process] = json.loads(gate.gateway.command("status", "--json"))["processes"]
        return {row["service"]: row["detail"] for row in process["services"] if row["state"] == "down"}

    told = until("all are suspended", lambda: found if set(zones) <= set(found := down()) else None)
    assert "lists everything" in told["world.test"] and "127.255.255.254" in told["denies.test"]
    asked = len([name for name, _, _ in server.played.asked if name.startswith(client)])
    for number in range(3):
        found, _ = gate.outcomes("198.51.100.7", f"mail{number}")
        assert found == {"world": "error", "denies": "error", "hole": "error"}
    assert len([name for name, _, _ in server.played.asked if name.startswith(client)]) == asked == 0
    lines = [event["service"] for event in gate.gateway.log_events(event="service_down")]
    assert all(lines.count(zone) == 1 for zone in zones)
    tried = gate.gateway.command("check", status=1)
    assert tried.count("suspended: ") == 3 and "denies.test does not answer us: 127.255.255.254" in tried
    # One comes back by itself, the others with servers that have not said anything yet.
    server.played.dead = ()
    until("the silent one comes back", lambda: "hole.test" not in down())
    config = gate.gateway.config
    config.write_text(config.read_text().replace(f":{server.port}\n", f":{played(well).port}\n"))
    gate.gateway.hangup()
    until("the others as well", lambda: not set(zones) & set(down()))
    assert gate.post("198.51.100.7", "listed").code == 550
    assert gate.outcomes("198.51.100.8", "absent")[0] == {"world": "absent", "denies": "absent", "hole": "absent"}


@pytest.mark.parametrize("mode", ["servfail", "garbage", "forged"])
def test_trouble_with_dns_refuses_nobody(play: Stage, played: Any, mode: str) -> None:
    found, _ = Gate(play, played(LISTED, mode).port).outcomes("198.51.100.7", "mail")
    assert set(found.values()) <= {"error", "timeout"}


def test_a_black_hole_in_place_of_dns_costs_little(play: Stage, played: Any) -> None:
    """Sixty messages from sixty addresses: once the server is known to be dead, nobody asks it but a probe."""
    hole = played(LISTED, "silent")
    gate = Gate(play, hole.port)

    def post(number: int) -> int:
        return gate.post(f"198.51.100.{number}", f"m{number}").code

    with ThreadPoolExecutor(10) as pool:
        codes = list(pool.map(post, range(1, 61)))
    assert codes == [250] * 60
    # Ten clients ask three questions each before anybody knows, three times each at most.
    assert hole.asked < 120
    asked = hole.asked
    hole.played.mode = ""

    def alive() -> bool:
        found, _ = gate.outcomes("198.51.100.200", f"again{hole.asked}{len(gate.primary.received())}")
        return found["bl"] == "absent"

    until("the server is asked again", alive)
    assert hole.asked > asked


def test_links_in_messages_are_looked_up_at_real_lists(play: Stage, tmp_path: Path) -> None:
    entries = ":127.0.1.2:spam\ntest\n.spam.example\n:127.0.1.4:phish\n.phish.example\n"
    rbldnsd = Rbldnsd(tmp_path, "uri.test", entries, kind="dnset").start()
    checks = (
        "[check uri]\nuse = uribl\nzone = uri.test\naddresses = no\ncodes = 127.0.1.4=phish 127.0.1.2=spam\n"
        "weight.phish = 50\nweight.spam = 3\n"
    )
    try:
        gate = Gate(play, rbldnsd.port, checks)
        absent = gate.outcomes("198.51.100.7", "one", words=b"see http://good.example/\r\n")[0]
        spam = gate.outcomes("198.51.100.7", "two", words=b"see http://bank.example@www.%73pam.example/\r\n")[0]
        phish = gate.post("198.51.100.7", "three", words=b"see http://good.example/?to=http://a.phish.example/\r\n")
    finally:
        rbldnsd.close()
    assert (absent, spam, phish.code) == ({"uri": "absent"}, {"uri": "spam"}, 550)
