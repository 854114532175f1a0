"""Command lines as tables: what is read, and what is refused with which reply."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.model.address import Address
from inboundmx.model.settings import FORBIDDEN_COMMANDS
from inboundmx.smtp.commands import (
    Auth,
    Bad,
    Command,
    Data,
    Hello,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rset,
    StartTls,
    Vrfy,
    Xclient,
    foreign,
    parse,
)

A = Address("a", "b.example")


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("EHLO client.example", Hello("client.example", True)),
        ("ehlo [192.0.2.1]", Hello("[192.0.2.1]", True)),
        ("HELO client.example ", Hello("client.example", False)),
        ("helo under_score", Hello("under_score", False)),
        ("DATA", Data()),
        ("data  ", Data()),
        ("RSET", Rset()),
        ("NOOP", Noop()),
        ("NOOP whatever you like", Noop()),
        ("VRFY someone", Vrfy("VRFY")),
        ("expn everybody", Vrfy("EXPN")),
        ("xclient ADDR=192.0.2.1 NAME=x", Xclient("ADDR=192.0.2.1 NAME=x")),
        ("HELP", Help()),
        ("HELP MAIL", Help()),
        ("QUIT", Quit()),
        ("STARTTLS", StartTls()),
        ("MAIL FROM:<>", Mail(None)),
        ("MAIL FROM:<a@b.example>", Mail(A)),
        ("mail from: <a@b.example>", Mail(A)),
        ("MAIL FROM:<a@b.example> SIZE=12", Mail(A, 12)),
        ("MAIL FROM:<a@b.example> size=00012 body=8bitmime", Mail(A, 12, True)),
        ("MAIL FROM:<a@b.example> BODY=7BIT", Mail(A)),
        ("MAIL FROM:<> SMTPUTF8", Mail(None, utf8=True)),
        ("MAIL FROM:<a@b.example> SIZE=99999999999999999999", Mail(A, 99999999999999999999)),
        ("RCPT TO:<a@b.example>", Rcpt(A)),
        ("rcpt to:<a@B.Example>", Rcpt(A)),
    ],
)
def test_reads(line: str, command: object) -> None:
    assert parse(line.encode()) == command


@pytest.mark.parametrize(
    ("path", "local", "domain"),
    [
        ("Local@B.EXAMPLE", "Local", "b.example"),
        ("a+tag/x=y@b.example", "a+tag/x=y", "b.example"),
        ('"a"@b.example', "a", "b.example"),
        ('"a.b"@b.example', "a.b", "b.example"),
        (r'"\a\.b"@b.example', "a.b", "b.example"),
        ('"a b"@b.example', '"a b"', "b.example"),
        (r'"a\ b"@b.example', '"a b"', "b.example"),
        (r'"a\"b\\c"@b.example', r'"a\"b\\c"', "b.example"),
        ('"a..b"@b.example', '"a..b"', "b.example"),
        ('""@b.example', '""', "b.example"),
        ('"a@victim.test"@b.example', '"a@victim.test"', "b.example"),
        ('"a>b"@b.example', '"a>b"', "b.example"),
        ("a%victim.test@b.example", "a%victim.test", "b.example"),
        ("victim.test!a@b.example", "victim.test!a", "b.example"),
        ("=?utf-8?q?v=40victim.test=3e?=@b.example", "=?utf-8?q?v=40victim.test=3e?=", "b.example"),
        ("-oQ/tmp@b.example", "-oQ/tmp", "b.example"),
        ("|id@b.example", "|id", "b.example"),
        ("a@[192.0.2.1]", "a", "[192.0.2.1]"),
        ("a@[ipv6:2001:DB8:0::1]", "a", "[IPv6:2001:db8::1]"),
        ("a@3221225985", "a", "3221225985"),
        ("a@localhost", "a", "localhost"),
        ("a@xn--bcher-kva.example", "a", "xn--bcher-kva.example"),
        ("x" * 254 + "@b.example", "x" * 254, "b.example"),
        ("a@_dmarc.b_c.example", "a", "_dmarc.b_c.example"),
        ("a@" + "y" * 63 + ".example", "a", "y" * 63 + ".example"),
        ("a@" + "y." * 127 + "z", "a", "y." * 127 + "z"),
    ],
)
def test_paths(path: str, local: str, domain: str) -> None:
    assert parse(f"RCPT TO:<{path}>".encode()) == Rcpt(Address(local, domain))
    assert parse(f"MAIL FROM:<{path}>".encode()) == Mail(Address(local, domain))


@pytest.mark.parametrize(
    "path",
    [
        "a@b.example",
        "<a@b.example",
        "a@b.example>",
        "<<a@b.example>>",
        "<a>",
        "<@b.example>",
        "<a@>",
        "< a@b.example>",
        "<a @b.example>",
        "<a@b.example >",
        "<a@b.example.>",
        "<a@.b.example>",
        "<a@b..example>",
        "<a@-b.example>",
        "<a@b-.example>",
        "<a@b.example,c@d.example>",
        "<a@b.example><c@d.example>",
        "<a@b.example>(comment)",
        "<a(comment)@b.example>",
        "<a@b.example(comment)>",
        "<a@b.example:25>",
        "<a@b@c.example>",
        "<a@victim.test@b.example>",
        "<@one.example:a@b.example>",
        "<@one.example,@two.example:a@b.example>",
        "<.a@b.example>",
        "<a.@b.example>",
        "<a..b@b.example>",
        "<a:b@b.example>",
        "<a;b@b.example>",
        "<a\\@b@b.example>",
        '<"a@b.example>',
        '<a"b"@b.example>',
        '<"a"b@b.example>',
        "<a\t@b.example>",
        '<"a\tb"@b.example>',
        "<a\x01@b.example>",
        "<a\x7f@b.example>",
        "<a@b\x7f.example>",
        "<a@[192.0.2.1>",
        "<a@[192.0.2]>",
        "<a@[192.0.2.256]>",
        "<a@[3221225985]>",
        "<a@[::1]>",
        "<a@[IPv6:::1%eth0]>",
        "<a@[IPv6:192.0.2.1]>",
        "<a@[x]>",
        "<a@[]>",
        "<a@[>",
        "<" + "x" * 255 + "@b.example>",
        "<a@" + "y" * 64 + ".example>",
        "<a@" + "y." * 127 + "zz>",
        "",
        "<a@b.example>\tSIZE=1",
    ],
)
def test_paths_that_are_none(path: str) -> None:
    recipient, sender = parse(f"RCPT TO:{path}".encode()), parse(f"MAIL FROM:{path}".encode())
    assert isinstance(recipient, Bad)
    assert isinstance(sender, Bad)
    assert (recipient.verb, recipient.reply.code, recipient.reply.enhanced) == ("RCPT", 501, "5.1.3")
    assert (sender.verb, sender.reply.code, sender.reply.enhanced) == ("MAIL", 501, "5.1.7")


@pytest.mark.parametrize("name", ["Postmaster", "postmaster", "POSTMASTER"])
def test_postmaster_needs_no_domain(name: str) -> None:
    assert parse(f"RCPT TO:<{name}>".encode()) == Rcpt(Address("postmaster", ""))
    assert isinstance(parse(f"MAIL FROM:<{name}>".encode()), Bad)


def test_postmaster_in_look_alike_letters_is_not_postmaster() -> None:
    assert isinstance(parse("RCPT TO:<poſtmaster>".encode(), utf8=True), Bad)


def test_nobody_is_no_recipient() -> None:
    assert isinstance(parse(b"RCPT TO:<>"), Bad)


@pytest.mark.parametrize(
    ("path", "local", "domain"),
    [
        ("ü@b.example", "ü", "b.example"),
        ('"ü"@b.example', "ü", "b.example"),
        ('"ü x"@b.example', '"ü x"', "b.example"),
        ("a@bücher.example", "a", "xn--bcher-kva.example"),
        ("a@bücher.EXAMPLE", "a", "xn--bcher-kva.example"),
        ("用户@例え.example", "用户", "xn--r8jz45g.example"),
    ],
)
def test_unicode_in_a_transaction_that_was_begun_with_smtputf8(path: str, local: str, domain: str) -> None:
    assert parse(f"RCPT TO:<{path}>".encode(), utf8=True) == Rcpt(Address(local, domain))
    assert parse(f"MAIL FROM:<{path}> SMTPUTF8".encode()) == Mail(Address(local, domain), utf8=True)
    for line in (f"RCPT TO:<{path}>", f"MAIL FROM:<{path}>"):
        refused = parse(line.encode())
        assert isinstance(refused, Bad)
        assert (refused.reply.code, refused.reply.enhanced) == (553, "5.6.7")


@pytest.mark.parametrize(
    "path",
    [
        "a@b\u3002example",  # ideographic full stop
        "a@b\uff0eexample",  # fullwidth full stop
        "a@b\uff61example",  # halfwidth ideographic full stop
        "a@\uff42.example",  # fullwidth letter
        "a@\u212aelvin.example",  # Kelvin sign
        "a@B\u00dcCHER.example",  # upper case that only a mapping would lower
        "a@ex\u200bample.example",  # zero width space
        "a@ex\u200dample.example",  # zero width joiner
        "a@\u2100.example",  # account of: a/c under a mapping
        "a@\u0130stanbul.example",
        "a@\u00df\u0327\u0301\u0301-.example",
        "a\u200b@b.example",
        "a\u2028@b.example",
        "a\u0085@b.example",
        "a\u202e@b.example",
        '"a\u00a0b"@b.example',
    ],
)
def test_unicode_that_is_not_what_it_seems(path: str) -> None:
    for command in (parse(f"RCPT TO:<{path}>".encode(), True), parse(f"MAIL FROM:<{path}> SMTPUTF8".encode())):
        assert isinstance(command, Bad)
        assert (command.reply.code, command.reply.enhanced) == (553, "5.6.7")


@pytest.mark.parametrize(
    ("line", "verb", "code", "enhanced"),
    [
        ("MAIL FROM:<> SIZE=x", "MAIL", 501, "5.5.4"),
        ("MAIL FROM:<> SIZE=-1", "MAIL", 501, "5.5.4"),
        ("MAIL FROM:<> SIZE=", "MAIL", 501, "5.5.4"),
        ("MAIL FROM:<> SIZE", "MAIL", 501, "5.5.4"),
        ("MAIL FROM:<> SIZE=١", "MAIL", 501, "5.5.4"),
        ("MAIL FROM:<> SIZE=999999999999999999999", "MAIL", 501, "5.5.4"),
        ("MAIL FROM:<> SIZE=1 SIZE=2", "MAIL", 501, "5.5.4"),
        ("MAIL FROM:<> BODY=BINARYMIME", "MAIL", 501, "5.5.4"),
        ("MAIL FROM:<> BODY", "MAIL", 501, "5.5.4"),
        ("MAIL FROM:<> SMTPUTF8=yes", "MAIL", 501, "5.5.4"),
        ("MAIL FROM:<> <c@d.example>", "MAIL", 501, "5.5.4"),
        ("MAIL FROM:<> BODY=8bıtmime", "MAIL", 501, "5.5.4"),
        ("MAIL FROM:<> AUTH", "MAIL", 501, "5.5.4"),
        ("MAIL FROM:<> AUTH=a+zz", "MAIL", 501, "5.5.4"),
        ("MAIL FROM:<> XYZZY", "MAIL", 555, "5.5.4"),
        ("RCPT TO:<a@b.example> RRVS=2026-01-01T00:00:00Z", "RCPT", 555, "5.5.4"),
        ("RCPT TO:<a@b.example> <c@d.example>", "RCPT", 501, "5.5.4"),
        ("MAIL", "MAIL", 501, "5.1.7"),
        ("MAIL <a@b.example>", "MAIL", 501, "5.1.7"),
        ("MAIL FROM", "MAIL", 501, "5.1.7"),
        ("MAIL FROM <a@b.example>", "MAIL", 501, "5.1.7"),
        ("MAIL TO:<a@b.example>", "MAIL", 501, "5.1.7"),
        ("RCPT", "RCPT", 501, "5.1.3"),
        ("RCPT FROM:<a@b.example>", "RCPT", 501, "5.1.3"),
        ("EHLO", "EHLO", 501, "5.5.4"),
        ("HELO ", "HELO", 501, "5.5.4"),
        ("EHLO two words", "EHLO", 501, "5.5.4"),
        ("EHLO a\tb", "EHLO", 501, "5.5.4"),
        ("EHLO a\x1bb", "EHLO", 501, "5.5.4"),
        ("EHLO bücher.example", "EHLO", 501, "5.5.4"),
        ("EHLO " + "x" * 256, "EHLO", 501, "5.5.4"),
        ("DATA now", "DATA", 501, "5.5.4"),
        ("RSET now", "RSET", 501, "5.5.4"),
        ("QUIT now", "QUIT", 501, "5.5.4"),
        ("STARTTLS now", "STARTTLS", 501, "5.5.4"),
        ("VRFY", "VRFY", 501, "5.5.4"),
        ("EXPN", "EXPN", 501, "5.5.4"),
        ("ETRN domain.example", "ETRN", 502, "5.5.1"),
        ("GET / HTTP/1.1", "", 500, "5.5.2"),
        ("XFORWARD ADDR=192.0.2.1", "XFORWARD", 502, "5.5.1"),
        ("", "", 500, "5.5.2"),
        (" ", "", 500, "5.5.2"),
        ("NONSENSE", "", 500, "5.5.2"),
        ("ſtarttls", "", 500, "5.5.2"),
        ("ﬆarttls", "", 500, "5.5.2"),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 25", "", 500, "5.5.2"),
    ],
)
def test_refused(line: str, verb: str, code: int, enhanced: str) -> None:
    command = parse(line.encode())
    assert isinstance(command, Bad)
    assert (command.verb, command.reply.code, command.reply.enhanced) == (verb, code, enhanced)
    assert not command.reply.then_close


# --- delivery status notifications (RFC 3461, RFC 6533) ---


@pytest.mark.parametrize(
    ("parameters", "command"),
    [
        ("RET=FULL", Mail(A, ret="FULL")),
        ("ret=hdrs", Mail(A, ret="HDRS")),
        ("ENVID=QQ314159", Mail(A, envid="QQ314159")),
        ("envid=a+2Bb+3Dc+20d size=5 RET=Full", Mail(A, 5, ret="FULL", envid="a+2Bb+3Dc+20d")),
        ("ENVID=a+2b", Mail(A, envid="a+2b")),
        ("ENVID=" + "x" * 100, Mail(A, envid="x" * 100)),
    ],
)
def test_what_the_sender_asks_for(parameters: str, command: Mail) -> None:
    assert parse(f"MAIL FROM:<a@b.example> {parameters}".encode()) == command


@pytest.mark.parametrize(
    "parameter",
    [
        "RET",
        "RET=ALL",
        "RET=FULL,HDRS",
        "RET=HDR\u017f",
        "RET=FULL RET=HDRS",
        "ENVID",
        "ENVID=",
        "ENVID=a+0D+0ABcc:+20x",
        "ENVID=a+",
        "ENVID=a+2",
        "ENVID=a+zz",
        "ENVID=a+7F",
        "ENVID=a+C3+BC",
        "ENVID=a=b",
        "ENVID=\u00fc",
        "ENVID=a+00",
        "ENVID=" + "x" * 101,
        "ENVID=a ENVID=a",
        "RET=FULL ENVID=a ret=full",
    ],
)
def test_what_no_sender_can_ask_for(parameter: str) -> None:
    command = parse(f"MAIL FROM:<a@b.example> SMTPUTF8 {parameter}".encode())
    assert isinstance(command, Bad)
    assert (command.reply.code, command.reply.enhanced) == (501, "5.5.4")


@pytest.mark.parametrize(
    ("parameters", "notify", "original"),
    [
        ("NOTIFY=NEVER", "NEVER", ""),
        ("notify=never", "NEVER", ""),
        ("NOTIFY=SUCCESS", "SUCCESS", ""),
        ("NOTIFY=Failure,delay", "FAILURE,DELAY", ""),
        ("NOTIFY=DELAY,SUCCESS,FAILURE", "DELAY,SUCCESS,FAILURE", ""),
        ("NOTIFY=DELAY,delay", "DELAY", ""),
        ("ORCPT=rfc822;Bob@b.example", "", "rfc822;Bob@b.example"),
        ("ORCPT=RFC822;a+2Bb@b.example NOTIFY=DELAY", "DELAY", "RFC822;a+2Bb@b.example"),
        ("ORCPT=x400;/C+3Dus/", "", "x400;/C+3Dus/"),
        ("ORCPT=rfc822;" + "x" * 493, "", "rfc822;" + "x" * 493),
        ("ORCPT=utf-8;gr\\x{FC}n\\x{2B}x@b.example", "", "utf-8;gr\\x{FC}n\\x{2B}x@b.example"),
        ("ORCPT=UTF-8;\\x{1F600}@b.example", "", "UTF-8;\\x{1F600}@b.example"),
    ],
)  # fmt: skip
def test_what_is_asked_for_a_recipient(parameters: str, notify: str, original: str) -> None:
    for utf8 in (False, True):
        assert parse(f"RCPT TO:<a@b.example> {parameters}".encode(), utf8) == Rcpt(A, notify, original)
    assert parse(f"RCPT TO:<postmaster> {parameters}".encode()) == Rcpt(Address("postmaster", ""), notify, original)


@pytest.mark.parametrize(
    "parameter",
    [
        "NOTIFY",
        "NOTIFY=",
        "NOTIFY=,",
        "NOTIFY=NEVER,SUCCESS",
        "NOTIFY=NEVER,NEVER",
        "NOTIFY=SUCCESS,",
        "NOTIFY=ALWAYS",
        "NOTIFY=\u017fUCCESS",
        "NOTIFY=DELAY NOTIFY=DELAY",
        "NOTIFY=SUCCESS;FAILURE",
        "ORCPT",
        "ORCPT=",
        "ORCPT=a@b.example",
        "ORCPT=rfc822;",
        "ORCPT=;a@b.example",
        "ORCPT=rfc 822;a@b.example",
        "ORCPT=rfc822;a+0D+0ABcc:+20x@b.example",
        "ORCPT=rfc822;a+b",
        "ORCPT=rfc822;a=b",
        "ORCPT=rfc822;gr\u00fcn@b.example",
        "ORCPT=rfc822;" + "x" * 494,
        "ORCPT=rfc822;a ORCPT=rfc822;a",
        "ORCPT=x+0D;a",
        "ORCPT=utf-8;a+2Bb@b.example",
        "ORCPT=utf-8;a\\b@b.example",
        "ORCPT=utf-8;a\\x{D}b",
        "ORCPT=utf-8;a\\x{0D}b",
        "ORCPT=utf-8;a\\x{D800}b",
        "ORCPT=utf-8;a\\x{110000}b",
        "ORCPT=utf-8;a\\x{2028}b",
        "ORCPT=utf-8;a\\x{}b",
        "ORCPT=utf-8;a\u2028b",
        "ORCPT=utf-8;" + "\u00fc" * 248,
        "ORCPT=utf-8;",
    ],
)
def test_what_cannot_be_asked_for_a_recipient(parameter: str) -> None:
    command = parse(f"RCPT TO:<a@b.example> {parameter}".encode(), utf8=True)
    assert isinstance(command, Bad)
    assert (command.verb, command.reply.code, command.reply.enhanced) == ("RCPT", 501, "5.5.4")


def test_an_original_recipient_beyond_ascii_belongs_to_smtputf8() -> None:
    line = "RCPT TO:<a@b.example> ORCPT=utf-8;grün@b.example".encode()
    assert parse(line, utf8=True) == Rcpt(A, "", "utf-8;grün@b.example")
    refused = parse(line)
    assert isinstance(refused, Bad)
    assert refused.reply.code == 501


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("GET / HTTP/1.1", 554),
        ("post /mail HTTP/1.1", 554),
        ("CONNECT mx.example.net:25 HTTP/1.1", 554),
        ("Host: mx.example.net:25", 554),
        ("User-Agent: lured", 554),
        ("Content-Length:", 554),
        ("Host:mx.example.net", 554),
        ("PRI * HTTP/2.0", 554),
        ("BDAT 12 LAST", 502),
    ],
)
def test_what_ends_the_session(line: str, code: int) -> None:
    command = parse(line.encode(), forbidden=FORBIDDEN_COMMANDS)
    assert isinstance(command, Bad)
    assert command.reply.code == code
    assert command.reply.then_close


@pytest.mark.parametrize(
    ("beginning", "code"),
    [
        (b"\x16\x03\x01\x02", 554),
        (b"\x16\x03", 554),
        (b"SSH-", 554),
        (b"\x03\0\0\x13", 554),
        (b"\x04\x01\0\x19", 554),
        (b"\x05\x01\0", 554),
        (b"\x16", None),
        (b"SSH", None),
        (b"EHLO", None),
        (b"\0\0", None),
        (b"\r\n", None),
    ],
)
def test_what_is_another_protocol(beginning: bytes, code: int | None) -> None:
    refusal = foreign(beginning)
    assert (refusal and refusal.code) == code
    assert refusal is None or refusal.then_close


def test_octets_that_are_no_text() -> None:
    assert parse(b"\xff\xfe") == parse(b"NONSENSE")
    for line in (b"MAIL FROM:<\xff@b.example> SMTPUTF8", b"EHLO \xc3", b"RCPT TO:<\xed\xa0\x80@b.example>"):
        command = parse(line, utf8=True)
        assert isinstance(command, Bad)
        assert command.reply.code == 500


@given(st.binary(max_size=60), st.sampled_from([b"", b"MAIL FROM:<", b"RCPT TO:<", b"EHLO "]), st.booleans())
@settings(max_examples=300)
def test_any_octets_are_read_or_refused(octets: bytes, start: bytes, utf8: bool) -> None:
    parse(start + octets, utf8)


locals_ = st.text(st.sampled_from('ab.@"\\ <>%!ü'), min_size=1, max_size=12)


@given(locals_)
@settings(max_examples=300)
def test_a_canonical_local_part_reads_as_itself(content: str) -> None:
    quoted = '"' + content.replace("\\", "\\\\").replace('"', '\\"') + '"'
    command = parse(f"RCPT TO:<{quoted}@b.example>".encode(), utf8=True)
    assert isinstance(command, Rcpt)
    assert command.address.domain == "b.example"
    assert parse(f"RCPT TO:<{command.address}>".encode(), utf8=True) == command


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("AUTH plain", Auth("PLAIN", None)),
        ("AUTH PLAIN =", Auth("PLAIN", "=")),
        ("auth SCRAM-SHA-256 biws", Auth("SCRAM-SHA-256", "biws")),
        ("AUTH", Auth("", None)),
        ("AUTH PLAIN a b", Auth("", None)),
        ("AUTH PLAIN *", Auth("", None)),
        ("MAIL FROM:<> AUTH=<>", Mail(None)),
        ("MAIL FROM:<> PRDR SMTPUTF8", Mail(None, utf8=True, prdr=True)),
        ("MAIL FROM:<> AUTH=ann+40a.example", Mail(None)),
    ],
)
def test_authentication(line: str, command: Command) -> None:
    assert parse(line.encode()) == command
