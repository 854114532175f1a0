"""A stranger's message goes through the gateway to the primary and arrives as it was sent, with our headers on top."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import smtplib
import subprocess

import pytest
from programs import DOMAIN, HOSTNAME, Gateway, RecordingPrimary, Sink, Stage, Wire, domain, letter, need, post, until

LARGE = b"".join(b"%07d " % number + b"x" * 90 + b"\r\n" for number in range(3000))
HUGE = os.urandom(2**20).hex().encode()


@pytest.fixture(scope="module")
def primary(shared: Stage) -> RecordingPrimary:
    return shared.recording()


@pytest.fixture(scope="module")
def gateway(shared: Stage, primary: RecordingPrimary) -> Gateway:
    spooled = domain(primary.port, "spooled.example", handover="spool")
    return shared.gateway(domain(primary.port) + spooled)


BODIES = {
    "plain": b"Hello.\r\n",
    "empty": b"",
    "only blank lines": b"\r\n\r\n\r\n",
    "dots": b".\r\n..\r\n...\r\n.a\r\na.\r\n.\r\n\r\n.\r\n",
    "a line of 998": b"x" * 998 + b"\r\n",
    "a line of 100,000": b"y" * 100_000 + b"\r\nafter\r\n",
    "eight bits": bytes(range(128, 256)) * 3 + b"\r\n" + "Grüße, 世界\r\n".encode(),
    "trailing spaces": b"a \t \r\n \r\n\t\r\n",
    "From at the line start": b"From here on\r\n>From there\r\n",
    "300 KB": LARGE,
}


@pytest.mark.parametrize("recipient", [f"user@{DOMAIN}", "user@spooled.example"], ids=["cut-through", "spool first"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_content_arrives_byte_for_byte(
    gateway: Gateway, primary: RecordingPrimary, body: bytes, recipient: str
) -> None:
    sent = letter("byte for byte", body)
    marker = sent.partition(b"Message-ID: ")[2].partition(b"\r\n")[0]

    answer = post(gateway.port, sent, recipients=[recipient], parameters=" BODY=8BITMIME")

    assert answer.code == 250, answer
    received = primary.one(marker)
    assert received.content.endswith(sent)
    assert (received.sender, received.recipients) == ("someone@stranger.example", (recipient,))


def test_a_message_without_a_header_section_arrives_as_it_is(gateway: Gateway, primary: RecordingPrimary) -> None:
    sent = b"\r\njust a body with a marker 3c9a1\r\n"

    assert post(gateway.port, sent).code == 250

    assert primary.one(b"marker 3c9a1").content.endswith(sent)


@pytest.mark.parametrize("recipient", [f"user@{DOMAIN}", "user@spooled.example"], ids=["cut-through", "spool first"])
def test_29_megabytes_arrive_byte_for_byte(gateway: Gateway, primary: RecordingPrimary, recipient: str) -> None:
    lines = b"".join(HUGE[at : at + 1022] + b"\r\n" for at in range(0, len(HUGE), 1022))
    sent = letter(f"huge for {recipient}", lines * 14)
    assert 27 * 2**20 < len(sent) < 30 * 2**20
    mark = f"Subject: huge for {recipient}".encode()

    answer = post(gateway.port, sent, recipients=[recipient], parameters=f" SIZE={len(sent)}")

    assert answer.code == 250, answer
    received = until("the large message", lambda: [mail for mail in primary.received() if mark in mail.content[:4096]])
    assert hashlib.sha256(received[0].content[-len(sent) :]).digest() == hashlib.sha256(sent).digest()


def test_a_message_over_the_size_limit_is_refused_and_the_session_goes_on(gateway: Gateway) -> None:
    with Wire(gateway.port) as wire:
        hello = wire.hello()
        assert f"SIZE {30 * 2**20}" in hello.lines
        assert wire.ask(f"MAIL FROM:<a@stranger.example> SIZE={31 * 2**20}").code == 552
        assert wire.ask("MAIL FROM:<a@stranger.example>").code == 250


def test_extensions_are_offered(gateway: Gateway) -> None:
    with Wire(gateway.port) as wire:
        hello = wire.hello()

    offered = {line.split(" ")[0] for line in hello.lines[1:]}
    assert {"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"} <= offered
    assert "STARTTLS" not in offered
    assert not offered & {"CHUNKING", "AUTH", "XCLIENT", "XFORWARD", "ETRN"}


def test_a_pipelined_session_is_answered_in_order(gateway: Gateway, primary: RecordingPrimary) -> None:
    sent = letter("all at once")
    with Wire(gateway.port) as wire:
        wire.hello()
        wire.send(b"MAIL FROM:<a@stranger.example>\r\nRCPT TO:<user@here.example>\r\n")
        wire.send(b"RCPT TO:<user@elsewhere.test>\r\nDATA\r\n")
        assert [wire.reply().code for _ in range(4)] == [250, 250, 550, 354]
        wire.send(sent + b".\r\nMAIL FROM:<b@stranger.example>\r\nRSET\r\nNOOP\r\nVRFY user\r\nQUIT\r\n")
        assert [wire.reply().code for _ in range(6)] == [250, 250, 250, 250, 252, 221]
    primary.one(b"Subject: all at once")


def test_bare_postmaster_is_taken(shared: Stage, primary: RecordingPrimary) -> None:
    gateway = shared.gateway(domain(primary.port), gateway_keys=f"postmaster = admin@{DOMAIN}")

    assert post(gateway.port, letter("to the postmaster"), recipients=["Postmaster"]).code == 250

    assert primary.one(b"to the postmaster").recipients == (f"admin@{DOMAIN}",)


def test_the_null_sender_is_taken(gateway: Gateway, primary: RecordingPrimary) -> None:
    assert post(gateway.port, letter("from nobody"), sender="").code == 250

    assert primary.one(b"from nobody").sender == ""


def test_an_internationalised_envelope_arrives(gateway: Gateway, primary: RecordingPrimary) -> None:
    answer = post(
        gateway.port,
        letter("utf8 envelope"),
        sender="почта@пример.example",
        recipients=[f"用户@{DOMAIN}"],
        parameters=" SMTPUTF8 BODY=8BITMIME",
    )

    assert answer.code == 250, answer
    received = primary.one(b"utf8 envelope")
    assert received.recipients == (f"用户@{DOMAIN}",)
    assert received.sender.startswith("почта@")


# --- headers ----------------------------------------------------------------------------------------------------------

FORGED = (
    b"Authentication-Results: mx.gateway.example; dmarc=pass header.from=bank.example\r\n"
    b"authentication-results: MX.Gateway.Example 1;\r\n\tspf=pass smtp.mailfrom=bank.example\r\n"
    b"Authentication-Results: (hello) mx.gateway.example. ; dkim=pass\r\n"
    b"Authentication-Results: other.example; spf=pass smtp.mailfrom=a.example\r\n"
    b"X-Spam-Level: NONE\r\nx-spam-score: -100\r\nX-Spam-Checks: all=fine(0)\r\n"
)


def test_our_headers_are_on_top_and_forged_ones_are_gone(gateway: Gateway, primary: RecordingPrimary) -> None:
    kept = letter("forged headers")

    answer = post(gateway.port, FORGED + kept)

    received = primary.one(b"Subject: forged headers")
    assert received.content.endswith(kept)
    (trace,) = received.field("Received")
    assert re.match(
        rf"from client\.stranger\.example \(.*\[127\.0\.0\.1\].*\) by {re.escape(HOSTNAME)} .*with ESMTP id \w{{10,}}"
        rf".*; \w{{3}}, \d{{1,2}} \w{{3}} \d{{4}} \d\d:\d\d:\d\d [+-]\d{{4}}",
        trace,
    ), trace
    assert answer.id in trace
    ours, theirs = received.field("Authentication-Results")
    assert ours.startswith(HOSTNAME)
    assert theirs == "other.example; spf=pass smtp.mailfrom=a.example"
    assert received.field("X-Spam-Level") == ["NONE"]
    assert received.field("X-Spam-Score") == ["0"]
    assert all("fine" not in value for value in received.field("X-Spam-Checks"))


HOSTILE = [b"EHLO (x)\x1b[31m\x7f;by evil.example\xff", b"HELO x\x0b(y)\\", b"EHLO x;\ta) by b"]


@pytest.mark.parametrize("hello", HOSTILE, ids=repr)
def test_a_hostile_hello_stays_within_one_header(
    gateway: Gateway, primary: RecordingPrimary, hello: bytes
) -> None:
    with Wire(gateway.port) as wire:
        wire.reply()
        answer = wire.ask(hello)
        if answer.code == 250:
            wire.envelope("a@stranger.example", f"user@{DOMAIN}")
            assert wire.content(letter(f"hostile {hello.hex()}")).code == 250
            head = primary.one(f"hostile {hello.hex()}".encode()).head
            assert not re.search(rb"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\xff]", head)
        else:
            assert answer.code in {500, 501}


# --- other people's clients -------------------------------------------------------------------------------------------


def test_swaks_delivers(gateway: Gateway, primary: RecordingPrimary) -> None:
    done = subprocess.run(
        [
            *(need("swaks"), "--server", f"127.0.0.1:{gateway.port}", "--helo", "swaks.stranger.example", "--pipeline"),
            *("--from", "swaks@stranger.example", "--to", f"user@{DOMAIN},second@{DOMAIN}", "--silent", "2"),
            *("--header", "Subject: by swaks", "--body", "one\n.\n..two"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    received = primary.one(b"Subject: by swaks")
    assert received.recipients == (f"user@{DOMAIN}", f"second@{DOMAIN}")
    assert b"one\r\n.\r\n..two" in received.content


def test_smtplib_delivers_several_messages_on_one_connection(gateway: Gateway, primary: RecordingPrimary) -> None:
    with smtplib.SMTP("127.0.0.1", gateway.port, local_hostname="python.stranger.example") as client:
        for number in range(3):
            client.sendmail("a@stranger.example", [f"user@{DOMAIN}"], f"Subject: smtplib {number}\r\n\r\nHello\r\n")
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("a@stranger.example", ["user@elsewhere.test"], "Subject: no\r\n\r\n")

    for number in range(3):
        primary.one(b"Subject: smtplib %d" % number)


@pytest.fixture(scope="module")
def sink(shared: Stage) -> Sink:
    return shared.sink()


@pytest.mark.parametrize("handover", ["cut-through", "spool"])
def test_a_burst_of_smtp_source_arrives_whole(shared: Stage, sink: Sink, handover: str) -> None:
    before = len(sink.messages())
    gateway = shared.gateway(domain(sink.port, handover=handover))

    subprocess.run(
        [
            *(need("smtp-source"), "-s", "20", "-m", "300", "-l", "4000", "-f", "load@stranger.example"),
            *("-t", f"user@{DOMAIN}", f"127.0.0.1:{gateway.port}"),
        ],
        check=True,
        timeout=60,
    )

    until("300 messages", lambda: len(sink.messages()) == before + 300)
    # -d without sessions of their own: each dump is one message, each with an id of its own.
    ids = {re.search(rb"(?m)^Message-Id: (.*)$", mail)[1] for mail in sink.messages()}
    assert len(ids) == len(sink.messages())
    until("an empty spool", lambda: gateway.listed("spool", "list") == [])


# --- the same service by other doors ----------------------------------------------------------------------------------


def test_twistd_starts_the_same_service(play: Stage, primary: RecordingPrimary) -> None:
    gateway = play.gateway(domain(primary.port), launcher="twistd")

    answer = post(gateway.port, letter("by twistd"))

    assert answer.code == 250
    primary.one(b"by twistd")
    # twistd ends by the signal that stopped it, once everything is shut down.
    assert gateway.stop() == -signal.SIGTERM
    assert gateway.log_events(event="handed_over", id=answer.id)
    assert gateway.log_events(event="stopped")
