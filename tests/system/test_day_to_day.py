"""An operator's days: copies kept, limits an hour, domains switched off and on, everybody's domain, the real client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mail_servers import Postfix, postfix
from programs import DOMAIN, Certificate, Gateway, RecordingPrimary, Stage, Wire, domain, letter, post, until

HOUR = 3600.0
ABROAD = "someone@abroad.example"


def copies(gateway: Gateway, folder: str) -> list[bytes]:
    return [path.read_bytes() for path in (gateway.folder / folder).rglob("*") if path.is_file()]


def counted(primary: RecordingPrimary, messages: int) -> None:
    until(f"{messages} messages", lambda: primary.count() >= messages)


def emptied(gateway: Gateway) -> None:
    until("an empty spool", lambda: gateway.listed("spool", "list") == [])


def taken(gateway: Gateway, id: str) -> list[dict[str, object]]:
    """How the primary took it, at once or out of the spool."""

    def events() -> list[dict[str, object]]:
        return [*gateway.log_events(event="handed_over", id=id), *gateway.log_events(event="delivered", id=id)]

    return until("delivered", events)


KEPT: dict[str, set[str]] = {"all": {"in", "out"}, "incoming": {"in"}, "outgoing": {"out"}, "none": set()}


def test_copies_of_what_each_rule_says(play: Stage) -> None:
    primary, world = play.recording(), play.sink()
    archives = (f"[archive {rule}]\ndomain = {DOMAIN}\npath = kept-{rule}\nrule = {rule}\n" for rule in KEPT)
    gateway = play.gateway(
        f"[relay]\nallow = 127.0.0.2\n[outbound world]\nserver = 127.0.0.1:{world.port}\n{''.join(archives)}"
        + domain(primary.port)
        + domain(primary.port, "other.example")
    )
    sent = {"in": letter("in, once"), "out": letter("out, once")}
    assert post(gateway.port, sent["in"]).code == 250
    assert post(gateway.port, letter("other"), recipients=["user@other.example"]).code == 250
    answer = post(gateway.port, sent["out"], sender=f"user@{DOMAIN}", recipients=[ABROAD], source="127.0.0.2")
    assert answer.code == 250, answer

    primary.one(b"Subject: in, once")
    primary.one(b"Subject: other")
    until("out", lambda: len(world.messages()) == 1)
    emptied(gateway)
    for rule, kept in KEPT.items():
        found = copies(gateway, f"kept-{rule}")
        assert len(found) == len(kept), rule
        for word in kept:
            assert sum(copy.endswith(sent[word]) for copy in found) == 1, (rule, word)


def test_beyond_the_limit_of_an_hour_mail_waits_for_the_next(play: Stage) -> None:
    primary = play.recording()
    gateway = play.gateway(
        domain(primary.port, messages_per_hour="5") + domain(primary.port, "free.example"), launcher="warped"
    )
    for number in range(12):
        assert post(gateway.port, letter(f"number {number}")).code == 250
    assert post(gateway.port, letter("free"), recipients=["user@free.example"]).code == 250
    primary.one(b"Subject: free")
    assert primary.count() == 5 + 1
    for expected in (10 + 1, 12 + 1):
        gateway.pass_time(HOUR + 60)
        counted(primary, expected)
        assert primary.count() == expected
    emptied(gateway)
    arrived = sorted(mail.field("Subject")[0] for mail in primary.received())
    assert arrived == sorted([*(f"number {number}" for number in range(12)), "free"])


def test_mail_of_a_domain_that_is_switched_off_waits_and_goes_when_it_is_back(play: Stage) -> None:
    primary = play.recording(start=False)
    gateway = play.gateway(domain(primary.port))
    assert post(gateway.port, letter("patient")).code == 250
    gateway.configure(domain(primary.port, enabled="no"))
    gateway.hangup()
    until("switched off", lambda: gateway.log_events(event="reloaded"))
    primary.start()
    gateway.command("spool", "force", "--state", "active", status=None)

    refused = post(gateway.port, letter("not now"))
    assert (refused.code, refused.enhanced) == (550, "5.7.1"), refused
    (entry,) = gateway.listed("spool", "list")
    assert (entry["state"], primary.count()) == ("active", 0)

    gateway.configure(domain(primary.port))
    gateway.hangup()
    until("back", lambda: len(gateway.log_events(event="reloaded")) == 2)
    gateway.drain()
    primary.one(b"patient")
    assert post(gateway.port, letter("now")).code == 250
    primary.one(b"Subject: now")


def test_all_domains_but_some(play: Stage) -> None:
    everybody, special = play.recording(), play.recording()
    gateway = play.gateway(
        domain(everybody.port, "*", **{"except": "not.example neither.example"})
        + domain(special.port, "special.example")
    )
    for name in ("any.example", "sub.not.example"):
        assert post(gateway.port, letter(f"to {name}"), recipients=[f"user@{name}"]).code == 250
        everybody.one(f"Subject: to {name}".encode())
    for name in ("not.example", "neither.example", "[192.0.2.1]", "192.0.2.1"):
        assert post(gateway.port, letter("no"), recipients=[f"user@{name}"]).code in (550, 553), name
    assert post(gateway.port, letter("special"), recipients=["user@special.example"]).code == 250
    special.one(b"Subject: special")
    assert everybody.count() == 2
    (warning,) = until("it is in the log", lambda: gateway.log_events(event="exposed"))
    assert "*" in warning["warning"]


@pytest.fixture(scope="module")
def trusting(certificate: Certificate) -> Iterator[Postfix]:
    with postfix(certificate) as made:
        yield made


@pytest.mark.root
@pytest.mark.parametrize("facts", ["xforward", "xclient"])
@pytest.mark.parametrize("handover", ["cut-through", "spool"])
def test_a_primary_that_trusts_us_sees_the_real_client(
    play: Stage, trusting: Postfix, facts: str, handover: str
) -> None:
    section = domain(trusting.ports["trusting"], "b.example", client_facts=facts, handover=handover)
    gateway = play.gateway(section)
    for source, name in (("127.0.0.7", "seven"), ("127.0.0.8", "eight")):
        with Wire(gateway.port, source=source) as wire:
            wire.hello(f"{name}.stranger.example")
            wire.envelope("a@stranger.example", "ann@b.example")
            answer = wire.content(letter(name))
            assert answer.code == 250, answer
        (event,) = taken(gateway, answer.id)
        held = trusting.held(str(event["reply"]))
        prefix = "log_" if facts == "xforward" else ""
        assert held[f"{prefix}client_address"][0] == source
        assert held[f"{prefix}helo_name"][0] == f"{name}.stranger.example"


def test_a_wish_to_hear_of_success_goes_through_two_gateways(play: Stage) -> None:
    """Both are asked, the second passes the mail to who tells nobody, and says so to the author: once."""
    plain, home = play.sink("-N"), play.recording()
    bounce = "[delivery]\nbounce = always\n"
    second = play.gateway(bounce + domain(plain.port) + domain(home.port, "home.example"))
    first = play.gateway(bounce + domain(second.port) + domain(home.port, "home.example"))
    with Wire(first.port) as wire:
        wire.hello()
        assert wire.ask("MAIL FROM:<author@home.example> RET=HDRS ENVID=two+2Bone").code == 250
        assert wire.ask(f"RCPT TO:<ann@{DOMAIN}> NOTIFY=SUCCESS ORCPT=rfc822;ann@old.example").code == 250
        assert wire.content(letter("for two")).code == 250
    until("the mail", lambda: len(plain.messages()) == 1)
    told = home.one(b"multipart/report")
    assert told.recipients == ("author@home.example",)
    for expected in ("Action: relayed", "Original-Envelope-Id: two+one", "Original-Recipient: rfc822; ann@old.example"):
        assert expected.encode() in told.content, told.content
    for gateway in (first, second):
        emptied(gateway)
    assert first.log_events(event="success_notified") == []
    assert home.count() == 1
