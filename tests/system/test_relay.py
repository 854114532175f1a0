"""Mail that leaves through the gateway, and gateways that send mail to each other."""

from __future__ import annotations

import pytest
from programs import DOMAIN, Stage, Wire, domain, free_port, letter, post, until

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
