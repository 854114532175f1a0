"""What is refused: relaying in every disguise, smuggling in every disguise, and how a refusal can be looked up."""

from __future__ import annotations

import contextlib
import json

import pytest
from programs import DOMAIN, Gateway, RecordingPrimary, Stage, Wire, domain, letter, post, until


@pytest.fixture(scope="module")
def primary(shared: Stage) -> RecordingPrimary:
    return shared.recording()


@pytest.fixture(scope="module")
def gateway(shared: Stage, primary: RecordingPrimary) -> Gateway:
    return shared.gateway(domain(primary.port) + domain(primary.port, "kiss.example"))


# --- relay tricks -----------------------------------------------------------------------------------------------------

RELAY = [
    "<user@elsewhere.test>",
    "user@elsewhere.test",
    "<user@elsewhere.test",
    "<user%elsewhere.test@here.example>",
    '<"user%elsewhere.test"@here.example>',
    "<user%elsewhere.test>",
    "<user@elsewhere.test@here.example>",
    '<"user@elsewhere.test"@here.example>',
    '<"user@elsewhere.test">',
    "<user@elsewhere.test:here.example>",
    "<user@here.example@elsewhere.test>",
    "<user@here.example,user@elsewhere.test>",
    "<user@here.example><user@elsewhere.test>",
    "<user@here.example> <user@elsewhere.test>",
    "<user@here.example>,<user@elsewhere.test>",
    "<@here.example:user@elsewhere.test>",
    "<@here.example,@elsewhere.test:user@elsewhere.test>",
    "@here.example:user@elsewhere.test",
    "<elsewhere.test!user@here.example>",
    "<elsewhere.test!user>",
    "<here.example!elsewhere.test!user>",
    "<user@elsewhere.test!here.example>",
    "<user>",
    "<user@>",
    "<@here.example>",
    "<>",
    "<user@[127.0.0.1]>",
    "<user@[192.0.2.1]>",
    "<user@127.0.0.1>",
    "<user@2130706433>",
    "<user@[IPv6:::1]>",
    "<user@localhost>",
    "<user@mx.gateway.example>",
    "<user@sub.here.example>",
    "<user@nothere.example>",
    "<user@here.example.elsewhere.test>",
    "<user@here.exampl>",
    "<user@here.examplee>",
    "<user@here.example..>",
    "<user@.here.example>",
    "<user@here..example>",
    "<user@*.example>",
    "<user@here.example(elsewhere.test)>",
    "<user@(here.example)elsewhere.test>",
    "<user@elsewhere.test (here.example)>",
    "<user@elsewhere.test#here.example>",
    "<user@elsewhere.test\\@here.example>",
    "<user@here_example>",
    "<|/bin/sh@here.example",
    "user@here.example user@elsewhere.test",
    "<user @elsewhere.test>",
    "<user@ elsewhere.test>",
    "<user@here.example >",
    "< user@here.example>",
]


@pytest.mark.parametrize("path", RELAY)
def test_a_relay_trick_is_refused(gateway: Gateway, path: str) -> None:
    with Wire(gateway.port) as wire:
        wire.hello()
        assert wire.ask("MAIL FROM:<a@stranger.example>").code == 250

        answer = wire.ask(f"RCPT TO:{path}")

        assert answer.code >= 500, answer
        assert answer.enhanced.startswith("5."), answer
        assert wire.ask("DATA").code in {503, 554}


LOOK_ALIKES = [
    "<user@hеre.example>",  # Cyrillic е
    "<user@here.exámple>",
    "<user@ｅlsewhere.test>",
    "<user@elsewhere。test>",
    "<user@elsewhere.test\u200b.here.example>",
    "<user@here\u200b.elsewhere.test>",
    "<user@ßhere.example>",
    # What one spelling or another of capitals and widths would make kiss.example of.
    "<user@\u212aiss.example>",
    "<user@K\u0130SS.example>",
    "<user@k\u0131ss.example>",
    "<user@ki\u017fs.example>",
    "<user@ki\u00df.example>",
    "<user@\uff4biss.example>",
    "<user@kis\u24ae.example>",
    "<user@kiss\u3002example>",
    "<user@ki\u00adss.example>",
]


@pytest.mark.parametrize("path", LOOK_ALIKES, ids=ascii)
@pytest.mark.parametrize("parameters", ["", " SMTPUTF8"], ids=["plain", "SMTPUTF8"])
def test_a_look_alike_domain_is_not_ours(gateway: Gateway, path: str, parameters: str) -> None:
    with Wire(gateway.port) as wire:
        wire.hello()
        assert wire.ask(f"MAIL FROM:<a@stranger.example>{parameters}").code == 250
        assert wire.ask(f"RCPT TO:{path}").code >= 500


@pytest.mark.parametrize("domain_part", ["HERE.example", "here.EXAMPLE", "Here.Example"])
def test_our_domain_in_any_case_is_ours(gateway: Gateway, primary: RecordingPrimary, domain_part: str) -> None:
    assert post(gateway.port, letter(f"to {domain_part}"), recipients=[f"user@{domain_part}"]).code == 250

    (recipient,) = primary.one(f"Subject: to {domain_part}\r\n".encode()).recipients
    assert recipient.lower() == f"user@{DOMAIN}"


CONTROLS = [
    b"<us\x00er@here.example>",
    b"<user\x00@here.example>",
    b"<user@here.example\x00@elsewhere.test>",
    b"<us\x01er@here.example>",
    b"<us\x7fer@here.example>",
    b"<us\ter@here.example>",
    b"<us\xffer@here.example>",
    b"<user@here.example>\x00",
    b"<us\ner@here.example>",
    b"<us\rer@here.example>",
]


@pytest.mark.parametrize("path", CONTROLS, ids=repr)
def test_a_control_octet_in_an_address_is_refused(gateway: Gateway, path: bytes) -> None:
    with Wire(gateway.port) as wire:
        wire.hello()
        wire.ask("MAIL FROM:<a@stranger.example>")
        wire.send(b"RCPT TO:" + path + b"\r\nQUIT\r\n")

        rest = wire.rest()

    assert rest[0][:1] == b"5", rest
    assert len(rest) <= 2, rest


ODD = ["=?utf-8?q?v=40elsewhere.test=3e?=", "=?x?q?user=40elsewhere.test?=", "user=elsewhere.test", "-froot", "`id`"]


@pytest.mark.parametrize("local", ODD)
def test_an_odd_local_part_arrives_literally_or_not_at_all(
    gateway: Gateway, primary: RecordingPrimary, local: str
) -> None:
    answer = post(gateway.port, letter(f"odd {local}"), recipients=[f"{local}@{DOMAIN}"])

    if answer.code == 250:
        assert primary.one(f"Subject: odd {local}\r\n".encode()).recipients == (f"{local}@{DOMAIN}",)
    else:
        assert answer.code >= 500, answer


# --- smuggling --------------------------------------------------------------------------------------------------------

ENDS = [
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r.\n", b"\n.\r", b"\r\r\n.\r\r\n",
    b"\r\n.\r\r\n", b"\n\n.\n\n", b"\n\n.\r\n", b"\r\n\x00.\r\n", b"\r\n.\x00\r\n", b"\x00\r\n.\x00\r\n",
    b"\r\n\n.\r\n", b"\r\n.\n\r\n", b"\r\x00\n.\r\x00\n", b"\n\r.\r\n", b"\r\n\r.\r\n", b"\r\n.\x00\n",
    b"\r\n.\r\x00\n",
]  # fmt: skip
SMUGGLED = (
    b"MAIL FROM:<admin@bank.example>\r\nRCPT TO:<user@here.example>\r\nDATA\r\n"
    b"Subject: smuggled\r\n\r\nsmuggled\r\n.\r\n"
)


@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_only_crlf_dot_crlf_ends_a_message(gateway: Gateway, primary: RecordingPrimary, end: bytes) -> None:
    with Wire(gateway.port) as wire:
        wire.hello()
        wire.envelope("a@stranger.example", f"user@{DOMAIN}")
        assert wire.ask("DATA").code == 354
        wire.send(b"Subject: smuggler\r\n\r\nfirst" + end + SMUGGLED)

        answer = wire.reply()
        wire.send(b"QUIT\r\n")
        rest = wire.rest()

    assert answer.code in {550, 552, 554}, answer
    assert [line[:3] for line in rest] == [b"221"], rest
    assert not [mail for mail in primary.received() if b"smuggle" in mail.content]


@pytest.mark.parametrize("end", [b"\n.\n", b"\r\n.\n", b"\r.\r\n", b"\r\n.\x00\r\n"], ids=repr)
def test_octet_by_octet_makes_no_difference(gateway: Gateway, primary: RecordingPrimary, end: bytes) -> None:
    with Wire(gateway.port) as wire:
        wire.hello()
        wire.envelope("a@stranger.example", f"user@{DOMAIN}")
        assert wire.ask("DATA").code == 354
        for octet in b"Subject: smuggler\r\n\r\nfirst" + end + SMUGGLED:
            wire.send(bytes([octet]))

        answer = wire.reply()
        wire.send(b"QUIT\r\n")
        rest = wire.rest()

    assert answer.code >= 500
    assert [line[:3] for line in rest] == [b"221"], rest
    assert not [mail for mail in primary.received() if b"smuggle" in mail.content]


ODD_LINES = [b"NOOP\nNOOP\r\n", b"NOOP\rNOOP\r\n", b"NO\x00OP\r\n", b"\xff\xfe\r\n", b"\r\n"]


@pytest.mark.parametrize("line", ODD_LINES, ids=repr)
def test_one_line_one_reply(gateway: Gateway, line: bytes) -> None:
    with Wire(gateway.port) as wire:
        wire.hello()
        wire.send(line + b"QUIT\r\n")
        rest = wire.rest()

    assert [reply[:1] for reply in rest[:1]] == [b"5"]
    assert len(rest) <= 2, rest


def test_a_refused_body_is_never_run_as_commands(gateway: Gateway) -> None:
    with Wire(gateway.port) as wire:
        wire.hello()
        # DATA refused, and the body follows all the same.
        wire.send(b"DATA\r\n" + b"NOT A COMMAND\r\n" * 100)
        rest = wire.rest()

    assert rest[0].startswith(b"503")
    assert len(rest) < 15, "cut off after a few bad commands"
    assert rest[-1].startswith(b"421"), rest[-1]


def test_a_dot_that_is_no_end_is_content(gateway: Gateway, primary: RecordingPrimary) -> None:
    sent = letter("dots that are content", b"a\r\n. \r\n.\t\r\n.x\r\n..\r\n")

    assert post(gateway.port, sent).code == 250

    assert primary.one(b"dots that are content").content.endswith(sent)


def test_chunking_is_not_offered_and_its_octets_are_not_run(gateway: Gateway) -> None:
    with Wire(gateway.port) as wire:
        assert "CHUNKING" not in wire.hello().text
        wire.envelope("a@stranger.example", f"user@{DOMAIN}")
        assert wire.ask("BDAT 6 LAST").code in {500, 502, 503}


@pytest.mark.parametrize("line", ["GET / HTTP/1.1", "POST /x HTTP/1.0", "CONNECT here.example:25 HTTP/1.1"])
def test_http_is_no_smtp(gateway: Gateway, line: str) -> None:
    with Wire(gateway.port) as wire:
        wire.reply()
        assert wire.ask(line).code in {421, 500, 501, 502, 503, 554}


@pytest.mark.parametrize("line", ["XCLIENT ADDR=192.0.2.1", "XFORWARD ADDR=192.0.2.1", "PROXY TCP4 192.0.2.1 ::1 1 25"])
def test_nobody_speaks_for_another_address(gateway: Gateway, line: str) -> None:
    with Wire(gateway.port) as wire:
        wire.hello()
        assert wire.ask(line).code in {500, 502, 503, 550, 554}


def test_an_endless_line_is_refused_and_does_not_end_the_service(gateway: Gateway) -> None:
    with Wire(gateway.port) as wire:
        wire.hello()
        with contextlib.suppress(ConnectionError):
            for _ in range(64):
                wire.send(b"x" * 65536)
            wire.send(b"\r\nQUIT\r\n")
        rest = wire.rest()

    assert not rest or rest[0][:1] in {b"4", b"5"}, rest
    with Wire(gateway.port) as wire:
        assert wire.hello().code == 250


# --- what is told about it --------------------------------------------------------------------------------------------


def test_a_refusal_can_be_explained(gateway: Gateway) -> None:
    answer = post(gateway.port, b"", sender="curious@stranger.example", recipients=["nobody@elsewhere.test"])

    assert answer.code == 550
    assert len(answer.id) >= 10, answer
    assert answer.id.isalnum(), answer
    until("a line in the log", lambda: gateway.log_events(event="refused", id=answer.id))
    told = until("an explanation", lambda: gateway.command("explain", answer.id, status=None))
    for fact in ("curious@stranger.example", "nobody@elsewhere.test", "127.0.0.1", "550"):
        assert fact in told, told


def test_a_delivery_can_be_explained(gateway: Gateway, primary: RecordingPrimary) -> None:
    answer = post(gateway.port, letter("to be explained"), sender="curious@stranger.example")

    assert answer.code == 250
    (event,) = until("a line in the log", lambda: gateway.log_events(id=answer.id))
    assert event["event"] == "handed_over"
    told = until("an explanation", lambda: gateway.command("explain", answer.id, status=None))
    for fact in ("curious@stranger.example", f"user@{DOMAIN}", f"127.0.0.1:{primary.port}", "250"):
        assert fact in told, told


def test_what_never_happened_cannot_be_explained(gateway: Gateway) -> None:
    gateway.command("explain", "0000000000zzzzz", status=1)


def test_every_refusal_of_a_session_has_code_sentence_and_id(gateway: Gateway) -> None:
    with Wire(gateway.port) as wire:
        wire.hello()
        answers = [
            wire.ask("RCPT TO:<user@here.example>"),
            wire.ask("FROB"),
            wire.ask("MAIL FROM:a b"),
            wire.ask(f"MAIL FROM:<a@b.example> SIZE={2**40}"),
            wire.ask("MAIL FROM:<a@b.example> UNKNOWN=1"),
        ]
    for answer in answers:
        assert answer.code >= 500
        assert answer.enhanced[:2] == "5.", answer
        assert len(answer.id) >= 10 and answer.id.isalnum(), answer
    told = until("an explanation", lambda: gateway.command("explain", answers[0].id, status=None))
    assert "503" in told


def test_hostile_text_stays_within_one_log_line(gateway: Gateway) -> None:
    before = len(gateway.log_events())
    with Wire(gateway.port) as wire:
        wire.reply()
        wire.ask(b"EHLO \x1b[2J\xe2\x80\xa8%s%n")
        wire.ask(b'MAIL FROM:<"\\"},{\\"event\\":\\"delivered"@stranger.example>')
        wire.ask("RCPT TO:<a\u2028b@elsewhere.test>".encode())
        wire.ask("RCPT TO:<user@elsewhere.test>")

    until("a line in the log", lambda: len(gateway.log_events()) > before)
    for line in gateway.output.read_text().splitlines():
        assert line.isprintable()
        assert isinstance(json.loads(line), dict)


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strict(shared: Stage, primary: RecordingPrimary) -> Gateway:
    limits = (
        "max_bad_commands = 3\nmax_bad_recipients = 3\nmax_recipients = 2\nmax_hop_count = 5\n"
        "max_message_size = 20KB\nmax_connections_per_ip = 4\ncommand_timeout = 1s\nsession_timeout = 1s\n"
    )
    return shared.gateway(domain(primary.port) + f"[smtp]\n{limits}")


def test_bad_commands_end_the_session(strict: Gateway) -> None:
    with Wire(strict.port) as wire:
        wire.hello()
        wire.send(b"FROB\r\n" * 10)
        rest = wire.rest()
    assert len(rest) <= 5
    assert rest[-1].startswith(b"421")


def test_bad_recipients_end_the_session(strict: Gateway) -> None:
    with Wire(strict.port) as wire:
        wire.hello()
        wire.ask("MAIL FROM:<a@stranger.example>")
        wire.send(b"RCPT TO:<user@elsewhere.test>\r\n" * 10)
        rest = wire.rest()
    assert len(rest) <= 5
    assert rest[-1].startswith(b"421")


def test_too_many_recipients_come_in_the_next_message(strict: Gateway) -> None:
    with Wire(strict.port) as wire:
        wire.hello()
        answers = wire.envelope("a@stranger.example", *(f"user{number}@{DOMAIN}" for number in range(3)))
        assert [answer.code for answer in answers] == [250, 250, 250, 452]
        assert wire.content(letter("two of three")).code == 250


def test_too_many_hops_are_a_loop(strict: Gateway) -> None:
    hops = b"".join(b"Received: from a by b; Sat, 21 Nov 2026 12:00:00 +0000\r\n" for _ in range(6))

    answer = post(strict.port, letter("loop", headers=hops))

    assert (answer.code, answer.enhanced) == (554, "5.4.6"), answer


def test_a_body_over_the_limit_is_refused_after_its_end(strict: Gateway) -> None:
    with Wire(strict.port) as wire:
        wire.hello()
        wire.envelope("a@stranger.example", f"user@{DOMAIN}")
        answer = wire.content(letter("too large", b"x" * 70 + b"\r\n" * 20_000))
        assert (answer.code, answer.enhanced) == (552, "5.3.4"), answer
        assert wire.ask("NOOP").code == 250


HOP = b"Received: from a by b; Sat, 21 Nov 2026 12:00:00 +0000\r\n"
COMMANDS = b"RSET\r\nMAIL FROM:<evil@bank.example>\r\nRCPT TO:<user@here.example>\r\nDATA\r\n"
MID_BODY = {
    "size": b"Subject: cut\r\n\r\n" + b"x" * 19_900 + b"\r\n" + COMMANDS * 10,
    "size in one line": b"Subject: cut\r\n\r\n" + b"x" * 300_000 + COMMANDS,
    "size in the header": b"Subject: " + b"x" * 21_000 + b"\r\n" + COMMANDS + b"\r\n" + COMMANDS,
    "hops": HOP * 7 + b"Subject: cut\r\n\r\n" + COMMANDS,
    "a lone line feed": b"Subject: cut\r\n\r\nx\n" + COMMANDS,
    "a NUL": b"Subject: cut\r\n\r\nx\x00\r\n" + COMMANDS,
}


@pytest.mark.parametrize("limit", MID_BODY)
def test_what_follows_where_a_message_went_too_far_is_no_command(
    strict: Gateway, primary: RecordingPrimary, limit: str
) -> None:
    with Wire(strict.port) as wire:
        wire.hello()
        wire.envelope("a@stranger.example", f"user@{DOMAIN}")
        assert wire.ask("DATA").code == 354
        wire.send(MID_BODY[limit] + b"..\r\n" + COMMANDS + b".\r\nNOOP\r\nQUIT\r\n")
        rest = wire.rest()
    assert [line[:3] for line in rest[1:]] == [b"250", b"221"], rest
    assert rest[0].startswith((b"552 5.3.4 ", b"554 5.4.6 ", b"554 5.6.0 ")), rest
    assert not [mail for mail in primary.received() if b"Subject: cut" in mail.content or "evil" in mail.sender]


def test_too_many_connections_of_one_address_hear_421(strict: Gateway) -> None:
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(strict.port)) for _ in range(4)]
        assert [wire.reply().code for wire in wires] == [220] * 4
        assert stack.enter_context(Wire(strict.port)).reply().code == 421

    def welcome() -> bool:
        with Wire(strict.port) as wire:
            return wire.reply().code == 220

    # Ours are closed; the gateway, which others share, has to notice.
    until("room for another", welcome)


@pytest.mark.parametrize("said", [b"", b"NOO"], ids=["nothing", "half a command"])
def test_silence_ends_a_session(strict: Gateway, said: bytes) -> None:
    with Wire(strict.port) as wire:
        wire.hello()
        wire.send(said)
        (line,) = wire.rest()
    assert line.startswith(b"421")
