"""Mail that leaves: directly by MX, to the real port 25 of a small world, and by gateways of others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from mail_servers import PASSWORD, USER, Postfix, postfix
from name_servers import Nsd
from network_of_its_own import OURS, OURS_SIX
from programs import HOSTNAME, Certificate, Gateway, RecordingPrimary, Stage, domain, letter, post, until

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("network")]

FIRST, SECOND, IMPLICIT, SIX = "192.0.2.10", "192.0.2.20", "192.0.2.30", "2001:db8:2::6"
NOBODY = "192.0.2.66"
AUTHOR = "author@home.example"
STRANGER = "198.51.100.9"
ZONES = {
    "hosts.test": f"first A {FIRST}\nsecond A {SECOND}\nnobody A {NOBODY}\nsix AAAA {SIX}\nours A {OURS}",
    "best.test": "@ MX 20 second.hosts.test.\n@ MX 10 first.hosts.test.",
    "down.test": "@ MX 20 second.hosts.test.\n@ MX 10 nobody.hosts.test.",
    "dead.test": "@ MX 10 nobody.hosts.test.",
    "implicit.test": f"@ A {IMPLICIT}",
    "six.test": "@ MX 10 six.hosts.test.",
    "null.test": "@ MX 0 .",
    "equal.test": "@ MX 10 first.hosts.test.\n@ MX 10 second.hosts.test.",
    "named.test": f"@ MX 10 {HOSTNAME}.\n@ MX 20 second.hosts.test.",
    "addressed.test": "@ MX 10 ours.hosts.test.",
    "loopback.test": "@ A 127.0.0.1",
    # A stranger who publishes whom he sends from, and one who does not.
    "honest.test": f'@ TXT "v=spf1 ip4:{STRANGER} -all"\n@ MX 10 first.hosts.test.',
    "silent.test": "@ MX 10 first.hosts.test.",
}


@pytest.fixture(scope="module")
def names(network: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nsd]:
    made = Nsd(tmp_path_factory.mktemp("nsd"), ZONES).start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def world(network: None, shared: Stage) -> RecordingPrimary:
    """Every mail server there is; ``Received.host`` says which one it was."""
    return shared.recording(hosts=(FIRST, SECOND, IMPLICIT, SIX), port=25)


@pytest.fixture(scope="module")
def home(network: None, shared: Stage) -> RecordingPrimary:
    """Where the authors read their mail."""
    return shared.recording()


def outgoing(names: Nsd, home: RecordingPrimary, more: str = "", delivery: str = "") -> str:
    return (
        f"[dns]\nservers = 127.0.0.1:{names.port}\n[relay]\nallow = 127.0.0.1\n[delivery]\n{delivery}\n"
        f"{domain(home.port, 'home.example')}{more}"
    )


@pytest.fixture(scope="module")
def gateway(shared: Stage, names: Nsd, home: RecordingPrimary) -> Gateway:
    """What leaves is committed first, so what becomes of it is seen in notices."""
    return shared.gateway(outgoing(names, home))


def send(gateway: Gateway, subject: str, *hosts: str, sender: str = AUTHOR) -> str:
    """To somebody at each host; the id of the message, which must be taken."""
    answer = post(gateway.port, letter(subject), sender=sender, recipients=[f"someone@{host}" for host in hosts])
    assert answer.code == 250, answer
    return answer.id


def delivered(gateway: Gateway, id: str) -> list[dict[str, object]]:
    return until("delivered", lambda: gateway.log_events(event="delivered", id=id))


# --- directly ---


@pytest.mark.parametrize(
    ("host", "address", "ours"),
    [
        ("best.test", FIRST, OURS),
        ("down.test", SECOND, OURS),
        ("implicit.test", IMPLICIT, OURS),
        ("six.test", SIX, OURS_SIX),
    ],
)
def test_by_mx(gateway: Gateway, world: RecordingPrimary, host: str, address: str, ours: str) -> None:
    send(gateway, f"to {host} once", host)
    mail = world.one(f"to {host} once".encode())
    assert (mail.host, mail.peer, mail.sender, mail.recipients) == (address, ours, AUTHOR, (f"someone@{host}",))


def test_hosts_of_equal_preference_share_the_mail(gateway: Gateway, world: RecordingPrimary) -> None:
    for number in range(24):
        send(gateway, f"equal {number} of them", "equal.test")

    def came() -> Counter[str]:
        return Counter(mail.host for mail in world.received() if b"of them" in mail.content)

    until("all of them", lambda: came().total() == 24)
    assert set(came()) == {FIRST, SECOND}


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("null.test", "5.1.10"),
        ("nowhere.null.test", "5.1.2"),
        ("named.test", "5.4.6"),
        ("addressed.test", "5.4.6"),
        ("loopback.test", "5.4.4"),
    ],
)
def test_where_nothing_can_be_sent_the_author_hears_it(
    gateway: Gateway, home: RecordingPrimary, world: RecordingPrimary, host: str, status: str
) -> None:
    before = world.count()
    send(gateway, f"hopeless for {host}", host)
    notice = home.one(f"hopeless for {host}".encode())
    assert (notice.sender, notice.recipients) == ("", (AUTHOR,))
    assert f"Status: {status}".encode() in notice.content
    until("an empty spool", lambda: gateway.listed("spool", "list") == [])
    assert world.count() == before


def test_one_message_for_several_places_is_told_apart(
    gateway: Gateway, world: RecordingPrimary, home: RecordingPrimary
) -> None:
    send(gateway, "for everybody", "best.test", "null.test", "six.test", "home.example")
    until("the mails", lambda: sum(b"for everybody" in mail.content for mail in world.received()) == 2)
    arrived = {mail.recipients: mail.host for mail in world.received() if b"for everybody" in mail.content}
    assert arrived == {("someone@best.test",): FIRST, ("someone@six.test",): SIX}
    until("mail and notice", lambda: sum(b"for everybody" in mail.content for mail in home.received()) == 2)
    mail, notice = sorted((m for m in home.received() if b"for everybody" in m.content), key=lambda m: not m.sender)
    assert mail.recipients == ("someone@home.example",)
    assert b"someone@null.test" in notice.content and b"Status: 5.1.10" in notice.content
    assert gateway.listed("spool", "list") == []


def test_dns_that_does_not_answer_is_no_reason_to_give_up(gateway: Gateway, names: Nsd) -> None:
    # A zone this server knows nothing of: REFUSED.
    id = send(gateway, "unknown whither", "elsewhere.example")
    until("a first attempt", lambda: gateway.log_events(event="deferred", id=id))
    (entry,) = gateway.listed("spool", "list")
    assert entry["state"] == "active"
    gateway.command("spool", "delete", entry["id"])


def test_notices_leave_for_senders_that_were_verified_only(
    play: Stage, names: Nsd, home: RecordingPrimary, world: RecordingPrimary
) -> None:
    primary = play.recording()
    primary.script(dot="550 5.6.0 no")
    spf = "[check spf]\nuse = spf\n"
    gateway = play.gateway(outgoing(names, home, spf + domain(primary.port, handover="spool")))

    def forged_or_not(sender: str, source: str) -> None:
        answer = post(gateway.port, letter(f"{sender} {source}"), sender=sender, source=source)
        assert answer.code == 250, answer

    forged_or_not("a@honest.test", STRANGER)
    forged_or_not("a@honest.test", "198.51.100.10")
    forged_or_not("a@silent.test", STRANGER)

    notice = world.one(b"multipart/report")
    assert (notice.sender, notice.recipients, notice.host) == ("", ("a@honest.test",), FIRST)
    until("all three failed", lambda: len(gateway.log_events(event="failed")) == 3)
    until("nothing on its way", lambda: not gateway.listed("spool", "list", "--state", "active"))
    held = gateway.listed("spool", "list", "--state", "held")
    assert sorted(entry["sender"] for entry in held) == ["a@honest.test", "a@silent.test"]
    assert sum(b"multipart/report" in mail.content for mail in world.received()) == 1


# --- by others ---


@pytest.fixture(scope="module")
def provider(network: None, certificate: Certificate) -> Iterator[Postfix]:
    with postfix(certificate) as made:
        yield made


def smart_host(provider: Postfix, port: str, **keys: str) -> str:
    keys = {"server": f"127.0.0.1:{provider.ports[port]}", "username": USER, "password": PASSWORD, **keys}
    return "[outbound provider]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_a_smart_host_that_wants_a_password(
    play: Stage, names: Nsd, home: RecordingPrimary, world: RecordingPrimary, provider: Postfix, mechanism: str
) -> None:
    gateway = play.gateway(outgoing(names, home, smart_host(provider, mechanism, tls="required")))
    before = world.count()
    id = send(gateway, "through the provider", "best.test")
    (taken,) = delivered(gateway, id)
    held = provider.held(str(taken))
    assert held["sasl_username"] == [USER] and held["sasl_method"] == [mechanism]
    assert held["recipient"] == ["someone@best.test"]
    # It alone, whatever it is that the domain's MX set says.
    assert world.count() == before


def test_a_password_is_not_given_away_in_the_clear(play: Stage, names: Nsd, home: RecordingPrimary) -> None:
    plain = play.recording()
    plain.script(offers=["AUTH PLAIN LOGIN"])
    keys = f"server = 127.0.0.1:{plain.port}\nusername = {USER}\npassword = {PASSWORD}\n"
    gateway = play.gateway(outgoing(names, home, f"[outbound provider]\n{keys}"))
    id = send(gateway, "not like that", "best.test")
    until("an attempt", lambda: gateway.log_events(event="deferred", id=id))
    assert plain.count() == 0
    assert [entry["state"] for entry in gateway.listed("spool", "list")] == ["active"]


def test_by_the_smart_host_what_cannot_be_delivered_directly(
    play: Stage, names: Nsd, home: RecordingPrimary, world: RecordingPrimary, provider: Postfix
) -> None:
    gateway = play.gateway(outgoing(names, home, smart_host(provider, "LOGIN", exclusive="no")))
    send(gateway, "directly if it goes", "best.test")
    assert world.one(b"directly if it goes").host == FIRST
    for host in ("dead.test", "addressed.test"):
        id = send(gateway, f"by the relay to {host}", host)
        (taken,) = delivered(gateway, id)
        assert provider.held(str(taken))["recipient"] == [f"someone@{host}"]
    # What the world refuses for good is not tried there again.
    world.script(dot="554 5.6.0 never")
    send(gateway, "unwanted", "best.test")
    notice = home.one(b"Subject: unwanted")
    world.script()
    assert b"Status: 5.6.0" in notice.content and b"Remote-MTA: dns; first.hosts.test" in notice.content


def test_who_leaves_by_which_gateway(play: Stage, names: Nsd, home: RecordingPrimary, world: RecordingPrimary) -> None:
    east, west, clean, bulk = (play.recording() for _ in range(4))
    gateway = play.gateway(
        outgoing(
            names,
            home,
            f"[outbound east]\nserver = 127.0.0.1:{east.port}\npriority = 4-10\nsource_address = 127.0.0.31\n"
            f"[outbound west]\nserver = 127.0.0.1:{west.port}\npriority = 4-10\n"
            f"[outbound clean]\nmode = domains\nserver = 127.0.0.1:{clean.port}\n"
            f"[outbound bulk]\nserver = 127.0.0.1:{bulk.port}\npriority = 1-3\n"
            f"[outbound off]\nserver = 127.0.0.1:{bulk.port}\nenabled = no\n"
            "[priority]\nmessage_size_threshold = 50KB\nover_size = 2\n"
            + domain(home.port, "clean.example", outbound="clean"),
            delivery="source_address = 127.0.0.32",
        )
    )
    for number in range(6):
        send(gateway, f"in turn {number}", "best.test")
    send(gateway, "by name", "best.test", sender="author@clean.example")
    answer = post(gateway.port, letter("large", b"x" * 70 + b"\r\n" + b"y" * 70_000 + b"\r\n"), sender=AUTHOR,
                  recipients=["someone@best.test"])  # fmt: skip
    assert answer.code == 250, answer

    until("all", lambda: [each.count() for each in (east, west, clean, bulk)] == [3, 3, 1, 1])
    assert clean.received()[0].sender == "author@clean.example"
    assert b"Subject: large" in bulk.received()[0].content
    assert {mail.peer for mail in east.received()} == {"127.0.0.31"}
    assert {mail.peer for mail in (*west.received(), *clean.received(), *bulk.received())} == {"127.0.0.32"}
    # The other one steps in where one is away.
    west.stop()
    for number in range(2):
        send(gateway, f"stepped in {number}", "best.test")
    until("stepped in", lambda: east.count() == 5)
    assert gateway.listed("spool", "list") == []


def test_an_address_that_is_not_ours_is_not_insisted_on(
    play: Stage, names: Nsd, home: RecordingPrimary, world: RecordingPrimary
) -> None:
    gateway = play.gateway(outgoing(names, home, delivery="source_address = 233.252.0.1"))
    send(gateway, "from anywhere", "best.test")
    assert world.one(b"from anywhere").peer == OURS
