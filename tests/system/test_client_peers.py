"""Our SMTP client and hosts that are not ours: Postfix with XCLIENT, XFORWARD, DSN and TLS, and Dovecot's SASL."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from mail_servers import PASSWORD, USER, Postfix, postfix
from programs import HERE, HOSTNAME, Certificate


class Peer:
    """Postfix, and a child with our client."""

    def __init__(self, postfix: Postfix, certificate: Certificate) -> None:
        self.postfix = postfix
        child = [sys.executable, str(HERE / "client_child.py"), str(certificate.certificate)]
        self.child = subprocess.Popen(child, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def converse(self, what: str, *parcels: dict[str, Any], name: str = "", **terms: Any) -> dict[str, Any]:
        """One connection to a port of Postfix, and what came of the parcels sent over it."""
        host = {"address": "127.0.0.1", "port": self.postfix.ports[what], "name": name}
        asked = {"host": host, "terms": {"tls": "none", **terms}, "parcels": parcels}
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(json.dumps(asked) + "\n")
        self.child.stdin.flush()
        result = json.loads(self.child.stdout.readline())
        assert isinstance(result, dict)
        return result

    def end(self) -> None:
        """Without a word of complaint from the client."""
        assert self.child.stdin is not None
        self.child.stdin.close()
        assert self.child.wait(20.0) == 0

    def held(self, attempt: dict[str, Any]) -> dict[str, list[str]]:
        assert attempt["delivered"], attempt
        return self.postfix.held(attempt["replies"][-1])


@pytest.fixture(scope="module")
def peer(certificate: Certificate) -> Iterator[Peer]:
    with postfix(certificate) as started:
        made = Peer(started, certificate)
        try:
            yield made
            made.end()
        finally:
            made.child.kill()
            made.child.wait()


def parcel(*recipients: str, **more: Any) -> dict[str, Any]:
    octets = "Subject: peers\r\n\r\nHello.\r\n.dots\r\n"
    return {"sender": "a@a.example", "recipients": recipients or ["ann@b.example"], "octets": octets, **more}


ONE, TWO = ["192.0.2.7", "one.example", "helo.one.example"], ["2001:db8::7", "", "[IPv6:2001:db8::7]"]
BLOCKED = ["192.0.2.66", "", "spam.example"]

# --- who the client is ---


def test_xforward_for_each_message(peer: Peer) -> None:
    parcels = [parcel(client=ONE), parcel(client=TWO), parcel()]
    result = peer.converse("trusting", *parcels, client_facts="xforward")
    one, two, nobody = map(peer.held, result["attempts"])
    assert one["log_client_name"] == ["one.example"]
    assert one["log_client_address"] == ["192.0.2.7"]
    assert one["log_helo_name"] == ["helo.one.example"]
    assert two["log_client_address"] == ["IPv6:2001:db8::7"]
    assert two["log_helo_name"] == ["[IPv6:2001:db8::7]"]
    assert two["log_client_name"] == ["unknown"]
    # Postfix forgets with the end of the transaction, so what is ours is not taken for the last client's.
    assert nobody["log_client_address"] == ["127.0.0.1"]
    assert {one["client_address"][0], two["client_address"][0]} == {"127.0.0.1"}


def test_xforward_step_by_step(peer: Peer) -> None:
    result = peer.converse("step by step", parcel(client=ONE), client_facts="xforward")
    assert "PIPELINING" not in result["extensions"]
    assert peer.held(result["attempts"][0])["log_client_address"] == ["192.0.2.7"]


@pytest.mark.parametrize("tls", ["none", "required"])
@pytest.mark.parametrize(("client", "name"), [(ONE, "one.example"), (TWO, "unknown")])
def test_xclient(peer: Peer, tls: str, client: list[str], name: str) -> None:
    result = peer.converse("trusting", parcel(client=client), client_facts="xclient", tls=tls)
    assert bool(result["tls"]) is (tls == "required")
    held = peer.held(result["attempts"][0])
    assert held["client_address"] == [client[0]]
    assert held["client_name"] == [name]
    assert held["helo_name"] == [client[2]]


def test_a_connection_told_of_one_client_carries_only_his_mail(peer: Peer) -> None:
    """Postfix believes only whom it trusts, and no longer trusts us once it takes us for a stranger."""
    result = peer.converse("trusting", *[parcel(client=ONE)] * 2, parcel(client=TWO), client_facts="xclient")
    first, second, third = result["attempts"]
    assert peer.held(first)["client_address"] == peer.held(second)["client_address"] == ["192.0.2.7"]
    assert (third["trouble"], third["phase"], third["usable"]) == ("lost", "mail", False)


def test_a_client_that_the_host_refuses_at_once(peer: Peer) -> None:
    result = peer.converse("greets by client", parcel(client=BLOCKED), client_facts="xclient")
    (attempt,) = result["attempts"]
    assert attempt["trouble"] == ""
    assert attempt["replies"][0].startswith("554 5.7.1 <unknown[192.0.2.66]>: Client host rejected")
    assert not attempt["usable"]


@pytest.mark.parametrize("facts", ["xclient", "xforward"])
def test_a_host_that_does_not_trust_us_gets_the_mail_as_ours(peer: Peer, facts: str) -> None:
    result = peer.converse("suspicious", parcel(client=ONE), client_facts=facts)
    held = peer.held(result["attempts"][0])
    assert held["client_address"] == held["log_client_address"] == ["127.0.0.1"]


# --- delivery status notifications ---


def test_what_the_sender_wants_to_hear(peer: Peer) -> None:
    wishes = [["SUCCESS,DELAY", "rfc822;Old+2Bann@b.example"], ["NEVER", "utf-8;grün@b.example"]]
    sent = parcel("ann@b.example", "bob@b.example", ret="HDRS", envid="QQ+3D1", dsn=wishes)
    (attempt,) = peer.converse("trusting", sent)["attempts"]
    assert attempt["dsn"] is True
    held = peer.held(attempt)
    assert held["envelope_id"] == ["QQ=1"]
    assert held["ret_flags"] == ["2"]
    # Postfix's own bits: 1 NEVER, 2 SUCCESS, 4 FAILURE, 8 DELAY.
    assert held["notify_flags"] == ["10", "1"]
    assert held["dsn_orig_rcpt"] == ["rfc822;Old+ann@b.example", "utf-8;grün@b.example"]


def test_a_host_without_dsn(peer: Peer) -> None:
    (attempt,) = peer.converse("step by step", parcel(ret="FULL", envid="E1", dsn=[["SUCCESS", ""]]))["attempts"]
    assert attempt["dsn"] is False
    assert "envelope_id" not in peer.held(attempt)


# --- encryption ---


@pytest.mark.parametrize(("tls", "name"), [("opportunistic", ""), ("required", ""), ("verified", HOSTNAME)])
def test_encrypted(peer: Peer, tls: str, name: str) -> None:
    result = peer.converse("trusting", parcel(), parcel(), tls=tls, name=name)
    assert result["tls"].startswith("TLSv1.")
    assert all(attempt["delivered"] for attempt in result["attempts"])


@pytest.mark.parametrize("name", ["other.gateway.example", ""])
def test_a_certificate_of_somebody_else(peer: Peer, name: str) -> None:
    result = peer.converse("trusting", tls="verified", name=name)
    assert (result["refused"], result["phase"]) == ("tls", "tls")
    assert (name or "127.0.0.1") in result["detail"]


# --- authentication ---


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
@pytest.mark.parametrize("tls", ["none", "required"])
def test_who_we_are_is_understood(peer: Peer, mechanism: str, tls: str) -> None:
    terms = {"tls": tls, "username": USER, "password": PASSWORD, "auth_without_tls": tls == "none"}
    # Relayed only for those who have authenticated.
    result = peer.converse(mechanism, parcel("else@elsewhere.example"), **terms)
    held = peer.held(result["attempts"][0])
    assert held["sasl_username"] == [USER]
    assert held["sasl_method"] == [mechanism]


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_a_wrong_password_is_a_refusal_of_us(peer: Peer, mechanism: str) -> None:
    result = peer.converse(mechanism, tls="required", username=USER, password="wrong secret")
    assert (result["refused"], result["phase"]) == ("rejects_us", "auth")
    assert "535" in result["detail"]
    assert "secret" not in result["detail"]


def test_a_host_that_asks_for_no_password(peer: Peer) -> None:
    result = peer.converse("trusting", tls="required", username=USER, password=PASSWORD)
    assert (result["refused"], result["phase"]) == ("rejects_us", "auth")


def test_authenticated_again_as_another_client(peer: Peer) -> None:
    terms = {"tls": "required", "username": USER, "password": PASSWORD, "client_facts": "xclient"}
    result = peer.converse("PLAIN", parcel("else@elsewhere.example", client=ONE), **terms)
    held = peer.held(result["attempts"][0])
    assert held["sasl_username"] == [USER]
    assert held["client_address"] == ["192.0.2.7"]


# --- size and internationalized mail ---


def test_internationalized_mail(peer: Peer) -> None:
    result = peer.converse("trusting", parcel("grün@b.example", utf8=True, eight_bit=True))
    assert peer.held(result["attempts"][0])["recipient"] == ["grün@b.example"]


def test_refusals_of_one_recipient(peer: Peer) -> None:
    result = peer.converse("trusting", parcel("ann@b.example", "bob@elsewhere.example", "eve@b.example"))
    (attempt,) = result["attempts"]
    assert [reply[:9] for reply in attempt["replies"]] == ["250 2.0.0", "554 5.7.1", "250 2.0.0"]
    assert attempt["usable"]
