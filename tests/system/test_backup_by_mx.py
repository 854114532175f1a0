"""Backup MX of whoever names us and a primary of ours in their MX set: what is taken, and to whom alone it goes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from name_servers import Nsd
from programs import HOSTNAME, Gateway, RecordingPrimary, Stage, Wire, letter, post, until

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("network")]

PRIMARY, LATE, STRANGER, ATTACKER = "192.0.2.10", "192.0.2.11", "198.51.100.20", "198.51.100.66"
US = f"@ MX 20 {HOSTNAME}."
TAKEN = f"@ MX 10 primary.hosts.test.\n{US}"
ZONES = {
    "hosts.test": f"primary A {PRIMARY}\nlate A {LATE}\nstranger A {STRANGER}\nattacker A {ATTACKER}",
    "taken.test": TAKEN,
    "waits.test": f"@ MX 10 late.hosts.test.\n{US}",
    "stranger.test": f"@ MX 5 stranger.hosts.test.\n@ MX 10 primary.hosts.test.\n{US}",
    "ours-alone.test": US,
    "without-us.test": "@ MX 10 primary.hosts.test.\n@ MX 20 stranger.hosts.test.",
    "others.test": f"@ MX 10 stranger.hosts.test.\n{US}",
    "worse.test": f"{US}\n@ MX 30 primary.hosts.test.",
    "equal.test": f"{US}\n@ MX 20 primary.hosts.test.",
    "null.test": "@ MX 0 .",
    "implicit.test": f"@ A {PRIMARY}",
}
MINUTE = 60.0


@pytest.fixture(scope="module")
def names(network: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nsd]:
    made = Nsd(tmp_path_factory.mktemp("nsd"), ZONES).start()
    yield made
    made.close()


@pytest.fixture
def names_of_its_own(network: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nsd]:
    made = Nsd(tmp_path_factory.mktemp("nsd"), ZONES).start()
    yield made
    made.close()


def sections(names: Nsd) -> str:
    return f"[dns]\nservers = 127.0.0.1:{names.port}\ntimeout = 1s\n[backup]\nprimaries = {PRIMARY} {LATE}\n"


@pytest.fixture(scope="module")
def world(network: None, shared: Stage) -> RecordingPrimary:
    """Every mail server there is; ``Received.host`` says which one it was."""
    return shared.recording(hosts=(PRIMARY, STRANGER, ATTACKER), port=25)


@pytest.fixture(scope="module")
def gateway(shared: Stage, names: Nsd) -> Gateway:
    return shared.gateway(sections(names))


def asked(gateway: Gateway, domain: str) -> tuple[int, str]:
    with Wire(gateway.port) as wire:
        wire.hello()
        _, answer = wire.envelope("someone@stranger.example", f"user@{domain}")
        return answer.code, answer.enhanced


@pytest.mark.parametrize("domain", ["taken.test", "stranger.test"])
def test_mail_goes_to_our_primary_and_nobody_else(gateway: Gateway, world: RecordingPrimary, domain: str) -> None:
    sent = letter(f"to {domain}")
    answer = post(gateway.port, sent, recipients=[f"user@{domain}"])
    assert answer.code == 250, answer
    mail = world.one(f"Subject: to {domain}".encode())
    assert (mail.host, mail.recipients) == (PRIMARY, (f"user@{domain}",))
    assert mail.content.endswith(sent)
    assert gateway.listed("spool", "list") == []


@pytest.mark.parametrize(
    "domain",
    [
        *("ours-alone.test", "without-us.test", "others.test", "worse.test", "equal.test", "null.test"),
        *("implicit.test", "nowhere.taken.test", "hosts.test"),
    ],
)
def test_whoever_does_not_name_us_behind_our_primary_is_refused(gateway: Gateway, domain: str) -> None:
    assert asked(gateway, domain) == (550, "5.7.1")


def test_what_dns_does_not_say_is_for_later(gateway: Gateway) -> None:
    # A zone this server knows nothing of: REFUSED.
    assert asked(gateway, "elsewhere.example") == (451, "4.4.3")


def test_a_name_server_that_is_down_costs_no_mail(
    play: Stage, names_of_its_own: Nsd, world: RecordingPrimary
) -> None:
    gateway = play.gateway(sections(names_of_its_own))
    names_of_its_own.end()
    assert asked(gateway, "taken.test") == (451, "4.4.3")
    names_of_its_own.start()

    def again() -> bool:
        return post(gateway.port, letter("dns is back"), recipients=["user@taken.test"]).code == 250

    until("taken again", again)
    world.one(b"dns is back")


@pytest.mark.parametrize(
    "meanwhile",
    [
        f"@ MX 5 attacker.hosts.test.\n@ MX 10 stranger.hosts.test.\n{US}",
        f"@ MX 5 attacker.hosts.test.\n@ MX 10 late.hosts.test.\n{US}",
        "@ MX 5 attacker.hosts.test.",
        "@ MX 0 .",
        f"@ A {ATTACKER}",
    ],
    ids=["no primary", "a better host", "without us", "null", "implicit"],
)
def test_an_mx_set_that_changes_while_mail_waits_leads_nowhere_else(
    play: Stage, names_of_its_own: Nsd, world: RecordingPrimary, meanwhile: str
) -> None:
    names = names_of_its_own
    gateway = play.gateway(sections(names), launcher="warped")
    before = world.count()
    answer = post(gateway.port, letter("waits"), recipients=["user@waits.test"])
    assert answer.code == 250, answer

    names.change(waits_test=meanwhile)
    gateway.pass_time(35 * MINUTE)

    assert world.count() == before
    names.change(waits_test=ZONES["waits.test"])
    primary = play.recording(hosts=(LATE,), port=25)
    gateway.pass_time(2 * MINUTE)
    (entry,) = gateway.listed("spool", "list") or [{"state": "gone"}]
    if entry["state"] == "held":
        gateway.command("spool", "release", entry["id"])
    elif entry["state"] == "active":
        gateway.command("spool", "force", entry["id"])
    assert primary.one(b"Subject: waits").host == LATE
    assert world.count() == before
    assert gateway.log_events(event="bounced") == []
