"""What senders are told, end to end: notices as they arrive at the sender's own server, read by another's parser."""

from __future__ import annotations

import email
from email.message import Message

from programs import DOMAIN, Gateway, RecordingPrimary, Stage, Wire, domain, letter, until

AUTHOR = "author@home.example"


def told(
    gateway: Gateway, content: bytes, *recipients: str, sender: str = AUTHOR, mail: str = "", host: str = DOMAIN
) -> str:
    """Posts to ``recipients`` (a local part, then its parameters); the id of the message that was accepted."""
    with Wire(gateway.port) as wire:
        wire.hello()
        assert wire.ask(f"MAIL FROM:<{sender}>{mail}").code == 250
        for recipient in recipients:
            name, _, parameters = recipient.partition(" ")
            assert wire.ask(f"RCPT TO:<{name}@{host}> {parameters}").code == 250
        answer = wire.content(content)
        assert answer.code == 250, answer
        return answer.id


def read(content: bytes) -> tuple[Message, str, list[Message], Message]:
    """A notice: the whole, its text, its groups of fields, and what is returned."""
    whole = email.message_from_bytes(content)
    assert whole.get_content_type() == "multipart/report" and not whole.defects
    text, status, returned = whole.get_payload()  # type: ignore[misc]
    assert status.get_content_type() == "message/delivery-status"  # type: ignore[union-attr]
    words = " ".join(text.get_payload().split())  # type: ignore[union-attr]
    return whole, words, list(status.get_payload()), returned  # type: ignore[union-attr, return-value, arg-type]


def spooling(primary: RecordingPrimary, home: RecordingPrimary, more: str = "") -> str:
    """Mail is spooled first, every sender may be told, and the senders' domain is ours too."""
    return (
        f"[delivery]\nbounce = always\n{more}"
        + domain(primary.port, handover="spool")
        + domain(home.port, "home.example")
    )


def emptied(gateway: Gateway) -> None:
    until("an empty spool", lambda: gateway.listed("spool", "list") == [])


def test_a_refusal_after_an_outage_is_told_as_it_was_asked(play: Stage) -> None:
    primary, home = play.recording(start=False), play.recording()
    gateway = play.gateway(spooling(primary, home))
    content = letter("to be returned", b"All of this, please.\r\n..and this\r\n")
    id = told(
        gateway, content,
        "ann NOTIFY=FAILURE ORCPT=rfc822;Ann+2BList@there.example", "bob", "eve NOTIFY=NEVER",
        mail=" RET=FULL ENVID=Q+2B1+20x",
    )  # fmt: skip
    until("a first attempt", lambda: gateway.log_events(event="deferred", id=id))
    # Fifty lines, some of them header fields.
    hostile = "".join(f"550-5.7.1 line {n} gr\u00fc\u00df\r\n550-Bcc: victim{n}@c.example\r\n" for n in range(25))
    primary.script(dot=f"{hostile}550 5.7.1 not wanted")
    primary.start()
    gateway.drain()

    notice = home.one(b"multipart/report")

    assert (notice.sender, notice.recipients) == ("", (AUTHOR,))
    whole, words, groups, returned = read(notice.content)
    assert whole["To"] == f"<{AUTHOR}>" and whole["Auto-Submitted"] == "auto-replied"
    ours = {"Date", "From", "To", "Subject", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"}
    assert {*whole.keys()} == ours | {"Content-Transfer-Encoding"}
    assert groups[0]["Original-Envelope-Id"] == "Q+1 x"
    assert [group["Final-Recipient"] for group in groups[1:]] == [f"rfc822; {name}@{DOMAIN}" for name in ("ann", "bob")]
    ann, bob = groups[1:]
    assert ann["Original-Recipient"] == "rfc822; Ann+List@there.example"
    assert "Original-Recipient" not in bob
    for group in (ann, bob):
        assert (group["Action"], group["Status"], group["Remote-MTA"]) == ("failed", "5.7.1", "dns; [127.0.0.1]")
        assert group["Diagnostic-Code"].startswith("smtp; 550 5.7.1 line 0")
        assert group["Last-Attempt-Date"]
    assert returned.get_content_type() == "message/rfc822"
    (original,) = returned.get_payload()  # type: ignore[misc]
    assert original["Subject"] == "to be returned"  # type: ignore[index]
    assert "All of this, please." in original.get_payload()  # type: ignore[union-attr]
    assert id in words
    emptied(gateway)
    fates = {event["recipients"][0]: event["fate"] for event in gateway.log_events(event="failed", id=id)}
    assert fates == {f"ann@{DOMAIN}": "notify", f"bob@{DOMAIN}": "notify", f"eve@{DOMAIN}": "dropped"}


def test_who_asked_for_nothing_is_told_nothing_and_no_notice_is_answered(play: Stage) -> None:
    primary, home = play.recording(), play.recording()
    gateway = play.gateway(spooling(primary, home))
    primary.script(dot="550 5.6.0 no")
    home.script(rcpt={AUTHOR: "550 5.1.1 no such author"})
    quiet = told(gateway, letter("quiet"), "ann NOTIFY=NEVER", "bob NOTIFY=SUCCESS,DELAY")
    until("the end", lambda: len(gateway.log_events(event="failed", id=quiet)) == 2)
    emptied(gateway)
    assert gateway.log_events(event="bounced", id=quiet) == []
    # This one's notice is refused in turn: that is the end of it.
    loud = told(gateway, letter("loud"), "ann")
    (bounced,) = until("a notice", lambda: gateway.log_events(event="bounced", id=loud))
    (failed,) = until("its end", lambda: gateway.log_events(event="failed", id=bounced["notice"]))
    assert failed["fate"] == "dropped"
    emptied(gateway)
    assert len(gateway.log_events(event="bounced")) == 1
    assert home.count() == 0


def test_success_is_told_where_nobody_further_on_tells_it(play: Stage) -> None:
    plain, duteous, mailboxes, home = play.sink("-N"), play.recording(), play.dovecot(), play.recording()
    duteous.script(offers=["DSN"])
    gateway = play.gateway(
        f"[delivery]\nbounce = always\n{domain(plain.port)}{domain(duteous.port, 'duteous.example')}"
        + domain(0, "mailboxes.example", primary=f"lmtp:127.0.0.1:{mailboxes.port}")
        + domain(home.port, "home.example")
    )
    asked = {"mail": " RET=HDRS ENVID=abc"}
    told(gateway, letter("with duty"), "ann NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a@x.example", "bob",
         host="duteous.example", **asked)  # fmt: skip
    told(gateway, letter("relayed"), "ann NOTIFY=SUCCESS", "bob", **asked)
    told(gateway, letter("delivered"), "ann NOTIFY=SUCCESS", host="mailboxes.example", **asked)
    told(gateway, letter("nobody asked"), "ann")

    relayed, delivered = home.one(b"Action: relayed"), home.one(b"Action: delivered")

    for notice, subject, host, reply in (
        (relayed, "relayed", DOMAIN, "smtp; 250 "),
        (delivered, "delivered", "mailboxes.example", "smtp; 250 2.0.0"),
    ):
        assert (notice.sender, notice.recipients) == ("", (AUTHOR,))
        _, words, (message, ann), returned = read(notice.content)
        assert message["Original-Envelope-Id"] == "abc"
        assert ann["Final-Recipient"] == f"rfc822; ann@{host}"
        assert ann["Status"].startswith("2.") and ann["Diagnostic-Code"].startswith(reply)
        assert "You asked to be told" in words
        assert returned.get_content_type() == "text/rfc822-headers"
        assert email.message_from_string(returned.get_payload())["Subject"] == subject  # type: ignore[arg-type]
    passed_on = duteous.one(b"with duty")
    assert "RET=HDRS" in passed_on.parameters[0] and "ENVID=abc" in passed_on.parameters[0]
    assert passed_on.parameters[1].split() == ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;a@x.example"]
    assert passed_on.parameters[2] == ""
    emptied(gateway)
    assert home.count() == 2
    assert len(gateway.log_events(event="success_notified")) == 2


def test_a_host_that_offers_dsn_is_not_to_answer_a_notice(play: Stage) -> None:
    primary, home = play.recording(), play.recording()
    primary.script(dot="550 5.6.0 no")
    home.script(offers=["DSN"])
    gateway = play.gateway(spooling(primary, home))
    told(gateway, letter("asked"), "ann", mail=" RET=FULL ENVID=abc")
    notice = home.one(b"multipart/report")
    assert "RET" not in notice.parameters[0] and "ENVID" not in notice.parameters[0]
    assert notice.parameters[1] == "NOTIFY=NEVER"


def test_a_notice_to_a_stranger_leaves_by_the_outbound_gateway(play: Stage) -> None:
    primary, relay = play.recording(), play.recording()
    primary.script(dot="550 5.6.0 no")
    gateway = play.gateway(
        f"[delivery]\nbounce = always\n{domain(primary.port, handover='spool')}"
        f"[outbound relay]\nserver = 127.0.0.1:{relay.port}\n"
    )
    told(gateway, letter("from afar"), "ann", sender="someone@stranger.example")
    notice = relay.one(b"multipart/report")
    assert (notice.sender, notice.recipients) == ("", ("someone@stranger.example",))
    emptied(gateway)


def test_forged_senders_hear_nothing(play: Stage) -> None:
    """Nobody's address was verified, a program wrote, it scored as spam, there is no sender: no backscatter."""
    primary, home = play.recording(), play.recording()
    # Of the content each time: the same 5.7.1 to all would be trouble with us.
    primary.script(dot="550 5.6.0 no")
    gateway = play.gateway(
        "[check marked]\nuse = headers\nheader = X-Marked\nvalue = yes\nweight.match = 12\n"
        + domain(primary.port, handover="spool")
        + domain(primary.port, "always.example", handover="spool", bounce="always")
        + domain(home.port, "home.example")
    )
    forged = 500
    with Wire(gateway.port) as wire:
        wire.hello()
        for number in range(forged):
            sender, host, header = f"v{number}@home.example", DOMAIN, b""
            if number % 5 == 1:
                sender, host = "", "always.example"
            elif number % 5 == 2:
                host, header = "always.example", b"Auto-Submitted: auto-generated\r\n"
            elif number % 5 == 3:
                host, header = "always.example", b"X-Marked: yes\r\n"
            octets = f"MAIL FROM:<{sender}>\r\nRCPT TO:<u{number}@{host}>\r\nDATA\r\n"
            wire.send(octets.encode())
            assert [wire.reply().code for _ in range(3)] == [250, 250, 354]
            wire.send(letter(f"n {number}", headers=header) + b".\r\n")
            assert wire.reply().code == 250
    until("all to fail", lambda: len(gateway.log_events(event="failed")) == forged, 60)
    assert gateway.log_events(event="bounced") == []
    held = gateway.listed("spool", "list", "--state", "held")
    assert len(held) == forged - forged // 5
    assert gateway.listed("spool", "list", "--state", "active") == []
    assert home.count() == 0


def test_beyond_the_notices_of_an_hour_mail_is_held(play: Stage) -> None:
    primary, home = play.recording(), play.recording()
    primary.script(dot="550 5.6.0 no")
    gateway = play.gateway(spooling(primary, home, "notices_per_hour = 3\n"))
    for number in range(8):
        told(gateway, letter(f"number {number}"), "ann", sender=f"a{number}@home.example")
    until("all to fail", lambda: len(gateway.log_events(event="failed")) == 8)
    until("three notices", lambda: home.count() == 3)
    assert len(gateway.listed("spool", "list", "--state", "held")) == 5
    (throttled,) = gateway.log_events(event="notice_throttled")
    assert throttled["notices_per_hour"] == 3
