"""SPF as strangers meet it: the suite of RFC 7208 said to a whole gateway, and a record that has us ask without end."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import dns.name
import pytest
from fakes.name_server import NEGATIVE_TTL, NameServer
from fakes.rfc7208_suite import Case, cases
from name_servers import PlayedServer
from programs import DOMAIN, Gateway, RecordingPrimary, Stage, Wire, domain, free_port, letter, stage

AMPLIFIED = "amplified.test"
# The record, its ten terms, and ten addresses for each.
MOST = 1 + 10 + 100
# The dearest record that RFC 7208 4.6.4 allows: ten terms of ten hosts each.
ZONE = {AMPLIFIED: {"TXT": ["v=spf1 " + " ".join(f"mx:m{n}.{AMPLIFIED}" for n in range(10)) + " -all"]}}
for n in range(10):
    ZONE[f"m{n}.{AMPLIFIED}"] = {"MX": [(host, f"h{host}.m{n}.{AMPLIFIED}") for host in range(10)]}
    ZONE |= {f"h{host}.m{n}.{AMPLIFIED}": {"A": ["198.51.100.1"]} for host in range(10)}


class Asking:
    """A gateway that asks for SPF of the sender alone, and whose time we let pass."""

    def __init__(self, play: Stage) -> None:
        self.names = PlayedServer()
        self.primary: RecordingPrimary = play.recording()
        self.port = free_port()
        self.gateway: Gateway = play.gateway(
            f"[dns]\nservers = 127.0.0.1:{self.names.port}\n{domain(self.primary.port)}"
            "[check spf]\nuse = spf\nidentity = mailfrom\n",
            extra_listen=f"haproxy:tcp:{self.port}:interface=127.0.0.1",
            launcher="warped",
        )

    def came(self, peer: str) -> Wire:
        """A connection that a trusted proxy says is from ``peer``."""
        wire = Wire(self.port)
        family, ours = ("TCP6", "2001:db8::25") if ":" in peer else ("TCP4", "192.0.2.25")
        wire.send(f"PROXY {family} {peer} {ours} 4000 25\r\n".encode())
        return wire

    def offered(self, subject: str, peer: str, hello: str, sender: str) -> int:
        """The code that decided."""
        with self.came(peer) as wire:
            for answer in (wire.hello(hello), *wire.envelope(sender, f"user@{DOMAIN}")):
                if answer.code >= 400:
                    return answer.code
            return wire.content(letter(subject)).code

    def outcomes(self) -> dict[str, str]:
        """What was found of each message, by its subject."""
        return {mail.field("Subject")[0]: mail.field("X-Spam-Checks")[0] for mail in self.primary.received()}


def as_shown(name: str) -> str:
    """With what dnspython escapes escaped, as the server will look for it."""
    return dns.name.Name([label.encode() for label in name.split(".") if label]).to_text(omit_final_dot=True)


@pytest.fixture(scope="module")
def asking() -> Iterator[Asking]:
    with stage() as play:
        made = Asking(play)
        with contextlib.closing(made.names):
            yield made
        assert made.gateway.faults() == []


def test_the_suite_of_rfc_7208_by_smtp(asking: Asking) -> None:
    said: dict[str, Case] = {}
    refused: list[int] = []
    for zone, group in itertools.groupby(cases(), key=lambda case: case.zone):
        asking.names.played = NameServer({as_shown(name): rows for name, rows in zone.items()}, ttl=0)
        # What the last zone said is forgotten.
        asking.gateway.pass_time(NEGATIVE_TTL + 1)
        for case in group:
            code = asking.offered(case.name, case.ip, case.hello, case.sender)
            if code == 250:
                said[case.name] = case
            else:
                refused.append(code)
    found = asking.outcomes()
    wrong = [
        (name, found[name])
        for name, case in said.items()
        if found[name] not in [f"spf={outcome}(0)" for outcome in case.results]
    ]
    assert wrong == []
    # No local part, labels of no or too many letters, blanks: such are not even addresses and names to SMTP.
    assert refused == [501] * 5


def test_a_record_that_has_us_ask_without_end_is_asked_about_once_for_all(asking: Asking) -> None:
    """By a hundred strangers at the same time."""
    asking.names.played = NameServer(ZONE)

    def one(number: int) -> int:
        with asking.came(f"198.18.0.{number}") as wire:
            wire.hello()
            return wire.envelope(f"a@{AMPLIFIED}", f"user@{DOMAIN}")[-1].code

    with ThreadPoolExecutor(100) as pool:
        assert set(pool.map(one, range(1, 101))) == {250}
    assert asking.offered("amplified", "198.18.0.1", "a.stranger.test", f"a@{AMPLIFIED}") == 250
    asked = [(name, type) for name, type, _ in asking.names.played.asked]
    assert len(set(asked)) <= MOST
    # What is lost on its way is asked again.
    assert len(asked) <= 1.2 * MOST
    assert asking.outcomes()["amplified"] == "spf=permerror(0)"
