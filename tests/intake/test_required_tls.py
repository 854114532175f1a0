"""A domain may take mail over TLS alone."""

from __future__ import annotations

from dataclasses import replace

from gate import ANN, EVE, MAIL, SESSION, Gate, domain, settings

SECRET = replace(SESSION, tls="TLSv1.3 TLS_AES_256_GCM_SHA384", sni="mx.example.net")
GIVEN = settings(domains=(domain("a.example", require_tls=True), domain("c.example")))


def test_in_the_clear_only_others_are_taken() -> None:
    gate = Gate(GIVEN)
    gate.envelope(EVE)
    reply = gate.ask(gate.conversation.recipient(ANN))
    assert (reply.code, reply.enhanced) == (550, "5.7.10")
    assert "STARTTLS" in reply.text
    event, id, fields = gate.journal.events[-1]
    assert (event, fields["recipient"]) == ("refused", str(ANN))
    assert reply.text.split()[-1] == id
    assert "tls" not in fields


def test_over_tls_all_are_and_it_is_told() -> None:
    gate = Gate(GIVEN, SECRET)
    assert gate.send(MAIL, ANN, EVE).code == 250
    fields = gate.journal.events[-1][2]
    assert (fields["tls"], fields["sni"]) == (SECRET.tls, SECRET.sni)
