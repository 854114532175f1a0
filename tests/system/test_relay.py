"""Mail that leaves through the gateway, and gateways that send mail to each other."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator

import pytest
from name_servers import PlayedServer
from programs import (
    DOMAIN,
    HOSTNAME,
    Answer,
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
from test_refusals import LOOK_ALIKES, RELAY

ABROAD = "someone@abroad.example"


def test_who_may_relay_sends_out_by_the_smart_host_and_is_archived(play: Stage) -> None:
    primary, smart_host = play.recording(), play.recording()
    six = free_port()
    gateway = play.gateway(
        f"[relay]\nallow = 127.0.0.1\n[outbound world]\nserver = 127.0.0.1:{smart_host.port}\n"
        f"[archive books]\npath = books\nrule = outgoing\n{domain(primary.port)}",
        extra_listen=f"tcp6:{six}:interface=\\:\\:1",
    )
    sent = letter("to the world")
    marker = sent.partition(b"Message-ID: ")[2].partition(b"\r\n")[0]

    answer = post(gateway.port, sent, sender=f"user@{DOMAIN}", recipients=[ABROAD, f"user@{DOMAIN}"])

    assert answer.code == 250, answer
    received = smart_host.one(marker)
    assert received.content.endswith(sent) and received.recipients == (ABROAD,)
    assert primary.one(marker).recipients == (f"user@{DOMAIN}",)
    until("the copy is kept", lambda: gateway.log_events(event="archived"))
    told = {event["domain"]: event["via"] for event in gateway.log_events(event="spooled", id=answer.id)}
    assert told == {"abroad.example": "outbound", DOMAIN: "", "books": "archive"}
    assert "outbound" in gateway.command("explain", answer.id)
    # The same gateway, from an address that nobody trusts.
    with Wire(six, host="::1") as wire:
        wire.hello()
        _, refused = wire.envelope(f"user@{DOMAIN}", ABROAD)
    assert refused.code == 550
    assert "relaying denied" in refused.text


@pytest.mark.parametrize("handover", ["cut-through", "spool"])
def test_gateways_that_send_mail_to_each_other_stop_and_the_sender_is_told_once(play: Stage, handover: str) -> None:
    senders = play.recording()
    first = play.gateway("", start=False)
    home = domain(senders.port, "sender.example")
    common = f"[delivery]\nbounce = always\nhandover = {handover}\n{home}"
    second = play.gateway(common + domain(first.port))
    first.configure(common + domain(second.port))
    first.start()

    answer = post(first.port, letter("round and round"), sender="one@sender.example")

    if handover == "cut-through":
        assert (answer.code, answer.enhanced) == (554, "5.4.6")
        assert senders.count() == 0
    else:
        assert answer.code == 250
        until("a notice", senders.count)
        assert b"5.4.6" in senders.received()[0].content
        for gateway in (first, second):
            gateway.drain()
        assert senders.count() == 1


# --- an open relay is what nobody finds -------------------------------------------------------------------------------

MAY_SEND, MAY_NOT = "192.0.2.9", "198.51.100.9"
PRIMARY = "192.0.2.10"
ZONE = {
    # The first is rightly our business; the second would make us relay to wherever its owner likes.
    "backed.test": {"MX": [(10, "primary.backed.test"), (20, HOSTNAME)]},
    "primary.backed.test": {"A": [PRIMARY]},
    "elsewhere.test": {"MX": [(10, "mx.elsewhere.test"), (20, HOSTNAME)], "A": ["198.51.100.66"]},
    "mx.elsewhere.test": {"A": ["198.51.100.66"]},
}
# Beside what is refused where nothing but one domain is configured.
TRICKS = [
    *(path for path in RELAY if path != "<user@sub.here.example>"),
    "<user@off.example>",
    "<user@sub.off.example>",
    "<user@xhere.example>",
    "<user@sub.nothere.example>",
    "<user@sub.here.example.elsewhere.test>",
    "<user@.sub.here.example>",
    "<user@sub..here.example>",
    "<user%elsewhere.test@sub.here.example>",
    '<"user@elsewhere.test"@sub.here.example>',
    "<elsewhere.test!user@sub.here.example>",
    "<@sub.here.example:user@elsewhere.test>",
    "<user%elsewhere.test@backed.test>",
    '<"user@elsewhere.test"@backed.test>',
    "<elsewhere.test!user@backed.test>",
    "<@backed.test:user@elsewhere.test>",
    f"<user@[{PRIMARY}]>",
    f"<user@{PRIMARY}>",
    "<user@primary.backed.test>",
    "<user@sub.backed.test>",
    "<user@test>",
    "<user@backed.test.>",
    "<user@0x7f000001>",
    "<user@010.0.0.1>",
]


@pytest.fixture(scope="module")
def names() -> Iterator[PlayedServer]:
    made = PlayedServer(ZONE)
    yield made
    made.close()


@pytest.fixture(scope="module")
def smart_host(shared: Stage) -> RecordingPrimary:
    """Takes whatever leaves the gateway."""
    return shared.recording()


class Guarded:
    """Everything that could make a gateway an open relay, at once; ``behind`` is its port for who speaks PROXY."""

    def __init__(self, shared: Stage, names: PlayedServer, smart_host: RecordingPrimary) -> None:
        self.primary = shared.recording()
        self.behind = free_port()
        self.gateway: Gateway = shared.gateway(
            f"[dns]\nservers = 127.0.0.1:{names.port}\n[relay]\nallow = {MAY_SEND}\n"
            f"[backup]\nprimaries = {PRIMARY}\n[outbound world]\nserver = 127.0.0.1:{smart_host.port}\n"
            + domain(self.primary.port, subdomains="yes")
            + domain(self.primary.port, "off.example", enabled="no"),
            extra_listen=f"haproxy:tcp:{self.behind}:interface=127.0.0.1",
        )

    def from_behind(self, peer: str) -> Wire:
        wire = Wire(self.behind)
        wire.send(f"PROXY TCP4 {peer} 127.0.0.1 4711 25\r\n".encode())
        return wire


@pytest.fixture(scope="module")
def guarded(shared: Stage, names: PlayedServer, smart_host: RecordingPrimary) -> Iterator[Guarded]:
    made = Guarded(shared, names, smart_host)
    yield made
    assert made.gateway.listed("spool", "list") == []


def asked(wire: Wire, path: str, parameters: str = "") -> Answer:
    with wire:
        wire.hello()
        assert wire.ask(f"MAIL FROM:<user@{DOMAIN}>{parameters}").code == 250
        return wire.ask(f"RCPT TO:{path}")


@pytest.mark.parametrize("path", [*TRICKS, *LOOK_ALIKES], ids=ascii)
def test_a_relay_trick_is_refused_whatever_is_configured(guarded: Guarded, path: str) -> None:
    for parameters in ("", " SMTPUTF8"):
        answer = asked(Wire(guarded.gateway.port), path, parameters)
        assert answer.code >= 500 and answer.enhanced.startswith("5."), answer


@pytest.mark.parametrize("path", [f"<user@{DOMAIN}>", f"<user@sub.{DOMAIN}>", "<user@backed.test>"])
def test_what_is_ours_is_taken_there(guarded: Guarded, path: str) -> None:
    assert asked(Wire(guarded.gateway.port), path).code == 250


@pytest.mark.parametrize(
    "path",
    [
        *("<user%elsewhere.test@other.test>", '<"user@elsewhere.test"@other.test>', "<elsewhere.test!user@other.test>"),
        *("<@other.test:user@elsewhere.test>", "<user@[192.0.2.66]>", "<user@192.0.2.66>", "<user@off.example>"),
    ],
)
def test_who_may_send_may_not_send_by_way_of_others(guarded: Guarded, path: str) -> None:
    assert asked(guarded.from_behind(MAY_SEND), path).code >= 500


FORGERIES = {
    "HELO": [f"EHLO [{MAY_SEND}]"],
    "HELO of ours": [f"EHLO {HOSTNAME}"],
    "XCLIENT": [f"XCLIENT ADDR={MAY_SEND} LOGIN=user", "EHLO client.stranger.example"],
    "XFORWARD": [f"XFORWARD ADDR={MAY_SEND} NAME=localhost"],
    "PROXY": [f"PROXY TCP4 {MAY_SEND} 127.0.0.1 4711 25", "EHLO client.stranger.example"],
    "AUTH": ["AUTH PLAIN " + b64encode(b"\0user\0password").decode()],
    "AUTH=": [],
}


@pytest.mark.parametrize("what", FORGERIES)
def test_what_a_client_says_of_itself_grants_nothing(guarded: Guarded, what: str) -> None:
    with Wire(guarded.gateway.port) as wire:
        wire.hello()
        for line in FORGERIES[what]:
            answer = wire.ask(line)
            assert line.startswith("EHLO") or answer.code >= 500, answer
        wire.ask(f"MAIL FROM:<user@{DOMAIN}>" + (f" AUTH=user@{DOMAIN}" if what == "AUTH=" else ""))
        answer = wire.ask(f"RCPT TO:<{ABROAD}>")
        assert answer.code >= 500, answer


def test_the_peer_that_a_trusted_proxy_names_is_who_counts(guarded: Guarded, smart_host: RecordingPrimary) -> None:
    before = smart_host.count()
    assert asked(guarded.from_behind(MAY_NOT), f"<{ABROAD}>").code == 550
    with guarded.from_behind(MAY_SEND) as wire:
        wire.hello()
        wire.envelope(f"user@{DOMAIN}", ABROAD)
        assert wire.content(letter("by proxy")).code == 250
    mail = smart_host.one(b"by proxy")
    assert MAY_SEND in mail.field("Received")[0]
    # A second header is a command that nobody knows.
    with guarded.from_behind(MAY_NOT) as wire:
        wire.hello()
        assert wire.ask(f"PROXY TCP4 {MAY_SEND} 127.0.0.1 4711 25").code >= 500
        assert wire.envelope(f"user@{DOMAIN}", ABROAD)[-1].code == 550
    assert smart_host.count() == before + 1
    until("an empty spool", lambda: guarded.gateway.listed("spool", "list") == [])


@pytest.mark.parametrize(("hops", "code"), [(20, 250), (150, 554)])
def test_mail_that_has_been_everywhere_goes_round(guarded: Guarded, hops: int, code: int) -> None:
    field = b"Received: from a.example by b.example; Sat, 21 Nov 2026 12:00:00 +0000\r\n"
    assert post(guarded.gateway.port, letter(f"{hops} hops", headers=field * hops)).code == code
