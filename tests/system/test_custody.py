"""What becomes of mail when the primary refuses, is down, is slow or half willing: every 250 is kept."""

from __future__ import annotations

import contextlib
import email
import email.policy
import re
import subprocess
import time

import pytest
from programs import (
    DOMAIN,
    Certificate,
    Gateway,
    RecordingPrimary,
    Stage,
    Wire,
    domain,
    free_port,
    letter,
    need,
    post,
    until,
)

SPOOL_KEYS = {
    *("id", "sender", "recipients", "size", "state", "priority", "attempts", "next_attempt_at", "age_seconds"),
    *("domain", "route"),
}
RECIPIENT_KEYS = {"address", "status", "attempts", "last_reply"}


# --- the primary's own answer -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def primary(shared: Stage) -> RecordingPrimary:
    return shared.recording()


@pytest.fixture(scope="module")
def gateway(shared: Stage, primary: RecordingPrimary) -> Gateway:
    """Notices are allowed, and have a way: the senders' domain is ours too."""
    return shared.gateway(
        domain(primary.port)
        + domain(primary.port, "spooled.example", handover="spool", bounce="always")
        + domain(primary.port, "quiet.example", bounce="never")
        + domain(primary.port, "strict.example", tempfail="pass")
        + domain(primary.port, "hasty.example", handover_deadline="1s")
    )


@pytest.fixture
def scripted(primary: RecordingPrimary):  # type: ignore[no-untyped-def]
    yield primary
    primary.script()


@pytest.mark.parametrize(
    "script",
    [
        {"mail": "550 5.7.1 <a@stranger.example> is not welcome 7d1f"},
        {"rcpt": {f"user@{DOMAIN}": "550 5.7.1 nobody here 7d1f"}},
        {"dot": "554 5.7.1 content is not welcome 7d1f"},
    ],
    ids=["MAIL", "RCPT", "dot"],
)
def test_the_stranger_hears_the_primarys_refusal(
    gateway: Gateway, scripted: RecordingPrimary, script: dict[str, object]
) -> None:
    scripted.script(**script)

    answer = post(gateway.port, letter("unwanted"), sender="a@stranger.example")

    assert answer.code in {550, 554}, answer
    assert answer.enhanced == "5.7.1"
    assert "7d1f" in answer.text
    assert len(answer.lines) == 1
    assert len(answer.id) >= 10 and answer.id.isalnum()
    assert gateway.listed("spool", "list") == []
    assert "7d1f" in until("an explanation", lambda: gateway.command("explain", answer.id, status=None))


def test_a_primarys_hostile_words_stay_within_one_line(gateway: Gateway, scripted: RecordingPrimary) -> None:
    scripted.script(dot="550-5.7.1 first\x1b[31m\r\n550-5.7.1 Bcc: x@evil.example\r\n550 5.7.1 last \u2028 9e2c")

    with Wire(gateway.port) as wire:
        wire.hello()
        wire.envelope("a@stranger.example", f"user@{DOMAIN}")
        answer = wire.content(letter("x"))
        wire.send(b"QUIT\r\n")
        rest = wire.rest()

    assert (answer.code, len(answer.lines)) == (550, 1), answer
    assert answer.text.isprintable() and answer.text.isascii(), answer
    assert [line[:3] for line in rest] == [b"221"]


@pytest.mark.parametrize(
    "script",
    [{"mail": "451 4.3.0 later"}, {"rcpt": {f"user@{DOMAIN}": "450 4.2.0 greylisted"}}, {"dot": "452 4.3.1 full"}],
    ids=["MAIL", "RCPT", "dot"],
)
def test_a_temporary_refusal_is_spooled(
    gateway: Gateway, scripted: RecordingPrimary, script: dict[str, object]
) -> None:
    scripted.script(**script)

    answer = post(gateway.port, letter(f"later {script}"))

    assert answer.code == 250, answer
    scripted.script()
    gateway.drain()
    scripted.one(f"Subject: later {script}".encode())


def test_a_temporary_refusal_is_passed_on_when_told_so(gateway: Gateway, scripted: RecordingPrimary) -> None:
    scripted.script(dot="452 4.3.1 full")

    answer = post(gateway.port, letter("passed on"), recipients=["user@strict.example"])

    assert (answer.code, answer.enhanced) == (452, "4.3.1"), answer
    assert gateway.listed("spool", "list") == []


def test_a_refused_login_is_our_trouble_not_the_senders(gateway: Gateway, scripted: RecordingPrimary) -> None:
    scripted.script(mail="530 5.7.0 authentication required")

    assert post(gateway.port, letter("our trouble")).code == 250

    scripted.script()
    gateway.drain()
    scripted.one(b"our trouble")


def test_of_three_recipients_one_unknown_the_others_get_it_once(gateway: Gateway, scripted: RecordingPrimary) -> None:
    scripted.script(rcpt={f"unknown@{DOMAIN}": "550 5.1.1 no such user"})

    answer = post(
        gateway.port, letter("for three"), recipients=[f"one@{DOMAIN}", f"unknown@{DOMAIN}", f"two@{DOMAIN}"]
    )

    assert answer.code == 250, answer
    gateway.drain()
    delivered = sorted(
        recipient
        for mail in scripted.received()
        if b"Subject: for three" in mail.content
        for recipient in mail.recipients
    )
    assert delivered == [f"one@{DOMAIN}", f"two@{DOMAIN}"]
    # The sender was never verified, so nobody is told; the mail is kept where an operator sees it.
    (kept,) = until("the undeliverable part", lambda: gateway.listed("spool", "list", "--state", "held"))
    pending = [recipient for recipient in kept["recipients"] if recipient["status"] == "pending"]
    failed = [recipient for recipient in kept["recipients"] if "5.1.1" in (recipient["last_reply"] or "")]
    assert [recipient["address"] for recipient in failed] == [f"unknown@{DOMAIN}"]
    assert [recipient["address"] for recipient in pending] in ([], [f"unknown@{DOMAIN}"])
    gateway.command("spool", "delete", kept["id"])
    assert gateway.listed("spool", "list") == []


def test_a_failure_is_notified_where_that_is_allowed(gateway: Gateway, scripted: RecordingPrimary) -> None:
    hostile = "550-5.1.1 no such\tuser\r\n550 5.1.1 \r\x1b Bcc: x@evil.example"
    scripted.script(rcpt={"unknown@spooled.example": hostile})

    answer = post(
        gateway.port, letter("to be bounced"), sender=f"author@{DOMAIN}", recipients=["unknown@spooled.example"]
    )

    assert answer.code == 250, answer

    def notices() -> list[bytes]:
        return [mail.content for mail in scripted.received() if mail.recipients == (f"author@{DOMAIN}",)]

    (content,) = until("a notice", notices)
    notice = email.message_from_bytes(content, policy=email.policy.default)
    assert notice.get_content_type() == "multipart/report"
    text, report, original = notice.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert report.get_content_type() == "message/delivery-status"
    assert original.get_content_type() in {"message/rfc822", "text/rfc822-headers"}
    fields = report.as_string()
    assert re.search(r"(?m)^Final-Recipient: rfc822; ?unknown@spooled\.example", fields), fields
    assert re.search(r"(?m)^Action: failed", fields)
    assert re.search(r"(?m)^Status: 5\.1\.1", fields)
    assert b"to be bounced" in content
    assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|(?m:^Bcc)|\r(?!\n)", content)
    (mail,) = [mail for mail in scripted.received() if mail.recipients == (f"author@{DOMAIN}",)]
    assert mail.sender == ""
    until("an empty spool", lambda: gateway.listed("spool", "list") == [])


def test_a_null_sender_is_never_notified(gateway: Gateway, scripted: RecordingPrimary) -> None:
    scripted.script(rcpt={"unknown@spooled.example": "550 5.1.1 no such user"})
    before = scripted.count()

    answer = post(gateway.port, letter("from nobody"), sender="", recipients=["unknown@spooled.example"])

    assert answer.code == 250
    until("an empty spool", lambda: gateway.listed("spool", "list") == [])
    assert scripted.count() == before
    assert until("a record", lambda: [e for e in gateway.log_events(id=answer.id) if e["event"] != "spooled"])


def test_past_the_deadline_the_message_is_ours_and_arrives_once(gateway: Gateway, scripted: RecordingPrimary) -> None:
    scripted.script(dot_delay=2.5)

    answer = post(gateway.port, letter("a slow primary"), recipients=["user@hasty.example"])

    assert answer.code == 250, answer
    scripted.one(b"a slow primary")
    until("the late answer to settle it", lambda: gateway.listed("spool", "list") == [])


def test_lost_after_the_dot_is_not_sent_again_soon(gateway: Gateway, scripted: RecordingPrimary) -> None:
    scripted.script(drop_at_dot=True)

    answer = post(gateway.port, letter("lost at the dot"))

    assert answer.code == 250, answer
    scripted.script()
    (entry,) = gateway.listed("spool", "list")
    assert entry["next_attempt_at"] - time.time() > 500
    scripted.one(b"lost at the dot")
    gateway.command("spool", "delete", entry["id"])


def test_smtp_sinks_failing_modes_never_lose_mail(play: Stage) -> None:
    """Hang-ups, 421 and temporary errors at every command: 250 for all, and each still there."""
    modes = [
        *(("-q", command) for command in ("mail", "rcpt", "data", ".")),
        *(("-r", command) for command in ("mail", "rcpt", "data", ".")),
        ("-Q", "ehlo,helo"),
        ("-f", "ehlo,helo"),
    ]
    sinks = {f"fails{number}.example": play.sink(*mode) for number, mode in enumerate(modes)}
    gateway = play.gateway("".join(domain(sink.port, name) for name, sink in sinks.items()))

    for name in sinks:
        answer = post(gateway.port, letter(f"to {name}"), recipients=[f"user@{name}"])
        assert answer.code == 250, (name, answer)

    kept = gateway.listed("spool", "list")
    assert sorted(entry["domain"] for entry in kept) == sorted(sinks)
    assert {entry["state"] for entry in kept} == {"active"}


# --- the primary is away ----------------------------------------------------------------------------------------------


def test_down_then_up_the_mail_arrives(play: Stage) -> None:
    primary = play.recording(start=False)
    gateway = play.gateway(domain(primary.port))
    sent = [letter(f"while down {number}", b"x" * (number * 100_000) + b"\r\n") for number in range(4)]

    answers = [post(gateway.port, content) for content in sent]

    assert [answer.code for answer in answers] == [250] * 4
    until("spooled events", lambda: len(gateway.log_events(event="spooled")) == 4)
    entries = gateway.listed("spool", "list")
    assert len(entries) == 4
    for entry in entries:
        assert set(entry) == SPOOL_KEYS
        (recipient,) = entry["recipients"]
        assert set(recipient) == RECIPIENT_KEYS
        assert (recipient["address"], recipient["status"]) == (f"user@{DOMAIN}", "pending")
        assert entry["sender"] == "someone@stranger.example"
        assert (entry["state"], entry["priority"], entry["domain"]) == ("active", 5, DOMAIN)
        assert entry["next_attempt_at"] > time.time() - 1
        assert 0 <= entry["age_seconds"] < 60
    assert sorted(entry["size"] for entry in entries)[0] >= len(sent[0])
    gateway.command("spool", "show", entries[0]["id"])

    primary.start()
    gateway.drain()

    for number, content in enumerate(sent):
        assert primary.one(b"Subject: while down %d\r\n" % number).content.endswith(content)
    assert gateway.stop() == 0


def test_the_second_primary_takes_over(play: Stage) -> None:
    second = play.recording()
    gateway = play.gateway(domain(0, primary=f"127.0.0.1:{free_port()} 127.0.0.1:{second.port}"))

    assert post(gateway.port, letter("failover")).code == 250

    second.one(b"failover")
    assert gateway.listed("spool", "list") == []


def test_a_stop_keeps_the_spool(play: Stage) -> None:
    primary = play.recording(start=False)
    gateway = play.gateway(domain(primary.port))
    for number in range(3):
        assert post(gateway.port, letter(f"kept {number}", b"y" * 200_000 * number + b"\r\n")).code == 250

    assert gateway.stop() == 0

    # The files answer as the running gateway does.
    assert len(gateway.listed("spool", "list")) == 3
    primary.start()
    gateway.start()
    gateway.drain()
    for number in range(3):
        primary.one(b"Subject: kept %d\r\n" % number)


def test_the_data_folder_can_be_moved_while_stopped(play: Stage) -> None:
    primary = play.recording(start=False)
    gateway = play.gateway(domain(primary.port))
    sent = letter("moved", b"z" * 400_000 + b"\r\n")
    assert post(gateway.port, sent).code == 250
    gateway.stop()

    moved = gateway.data.with_name("elsewhere")
    gateway.data.rename(moved)
    gateway.data = moved
    gateway.configure(domain(primary.port))
    primary.start()
    gateway.start()
    gateway.drain()

    assert primary.one(b"Subject: moved").content.endswith(sent)


def test_a_primary_that_restarts_in_mid_run_costs_nothing(play: Stage) -> None:
    primary = play.recording()
    gateway = play.gateway(domain(primary.port))
    source = subprocess.Popen(
        [
            *(need("smtp-source"), "-s", "10", "-m", "800", "-l", "3000", "-f", "load@stranger.example"),
            *("-t", f"user@{DOMAIN}", f"127.0.0.1:{gateway.port}"),
        ]
    )
    try:
        until("100 messages", lambda: primary.count() >= 100)
        primary.stop()
        until("something spooled", lambda: gateway.log_events(event="spooled"))
        primary.start()
        gateway.command("spool", "force", "--state", "active")
        # smtp-source ends with an error at the first answer that is not positive.
        assert source.wait(60) == 0
    finally:
        source.kill()
        source.wait()
    gateway.drain()

    ids = [re.search(rb"(?m)^Message-Id: (.*)\r$", mail.content)[1] for mail in primary.received()]  # type: ignore[index]
    assert len(set(ids)) == 800
    # Taken by the primary that was killed, its 250 never heard: one for each connection that was open, no more.
    assert len(ids) - 800 <= 20


def test_two_gateways_that_point_at_each_other_stop(play: Stage) -> None:
    hops = "[smtp]\nmax_hop_count = 8\n"
    there = play.gateway("", start=False)
    here = play.gateway(domain(there.port) + hops)
    there.configure(domain(here.port) + hops)
    there.start()

    answer = post(here.port, letter("round and round"))

    assert (answer.code, answer.enhanced) == (554, "5.4.6"), answer
    assert here.listed("spool", "list") == there.listed("spool", "list") == []


def test_strangers_cannot_take_the_descriptors_that_delivery_needs(play: Stage) -> None:
    primary = play.recording(start=False)
    limits = "[smtp]\nmax_connections_per_ip = 1000\n"
    gateway = play.gateway(domain(primary.port) + limits, start=False).start(descriptors=256)
    assert post(gateway.port, letter("before the crowd", b"x" * 300_000 + b"\r\n")).code == 250

    with contextlib.ExitStack() as crowd:
        for _ in range(400):
            crowd.enter_context(Wire(gateway.port))
        primary.start()
        gateway.drain()
        primary.one(b"before the crowd")

    def served() -> bool:
        try:
            return post(gateway.port, letter("after the crowd")).code == 250
        except (OSError, EOFError, AssertionError):
            return False

    until("service again", served)
    primary.one(b"after the crowd")


@pytest.mark.parametrize(
    ("tls", "offered", "delivered", "encrypted"),
    [
        ("none", True, True, False),
        ("opportunistic", True, True, True),
        ("opportunistic", False, True, False),
        ("required", True, True, True),
        ("required", False, False, False),
        # Encrypted, but by a certificate that nobody vouches for.
        ("verified", True, False, False),
    ],
)
def test_encryption_towards_the_primary(
    play: Stage, certificate: Certificate, tls: str, offered: bool, delivered: bool, encrypted: bool
) -> None:
    primary = play.recording(certificate=certificate if offered else None)
    gateway = play.gateway(domain(primary.port, tls=tls))

    assert post(gateway.port, letter("encrypted or not")).code == 250

    if delivered:
        assert primary.one(b"encrypted or not").tls is encrypted
    else:
        (entry,) = gateway.listed("spool", "list")
        assert entry["state"] == "active"
        assert primary.count() == 0


@pytest.mark.root
def test_lmtp_is_spoken_to_dovecot(play: Stage) -> None:
    dovecot = play.dovecot()
    gateway = play.gateway(domain(0, primary=f"lmtp:127.0.0.1:{dovecot.port}"))
    sent = letter("by lmtp", b"one\r\n.\r\n..two\r\n")

    answer = post(gateway.port, sent, recipients=[f"anna@{DOMAIN}", f"bert@{DOMAIN}"])

    assert answer.code == 250, answer
    for user in ("anna", "bert"):
        (mail,) = until(f"mail for {user}", lambda user=user: dovecot.mailbox(user))
        assert mail.endswith(sent.replace(b"\r\n", b"\n"))
    until("an empty spool", lambda: gateway.listed("spool", "list") == [])
