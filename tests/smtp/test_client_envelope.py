"""MAIL and RCPT with the parameters of RFC 3461, and that nothing handed on breaks a line."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fakes.smtp_wire import ANN, BOB, EHLO, Network, Outcome, parcel
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.smtp.client_envelope import mail_command, recipient_commands

DSN = {"PIPELINING": "", "DSN": ""}


@pytest.mark.parametrize(
    ("ret", "envid", "expected"),
    [
        ("FULL", "", " RET=FULL"),
        ("hdrs", "", " RET=hdrs"),
        ("", "QQ314159", " ENVID=QQ314159"),
        ("HDRS", "a+2Bb~!", " RET=HDRS ENVID=a+2Bb~!"),
        ("", "", ""),
        ("BODY", "a b", ""),
        ("FULL\r\nRSET", "a\r\nb", ""),
        ("", "a=b", ""),
        ("", "a+2b", ""),
        ("", "a+", ""),
        ("", "grün", ""),
        ("", "x" * 101, ""),
    ],
)
def test_ret_and_envid(ret: str, envid: str, expected: str) -> None:
    made = parcel(ret=ret, envid=envid)
    assert mail_command(made, DSN) == "MAIL FROM:<sender@a.example>" + expected
    assert mail_command(made, {}) == "MAIL FROM:<sender@a.example>"


@pytest.mark.parametrize(
    ("notify", "original", "expected"),
    [
        ("NEVER", "", " NOTIFY=NEVER"),
        ("success,FAILURE,Delay", "", " NOTIFY=success,FAILURE,Delay"),
        ("", "rfc822;ann+2Blist@b.example", " ORCPT=rfc822;ann+2Blist@b.example"),
        ("FAILURE", "rfc822;Ann@b.example", " NOTIFY=FAILURE ORCPT=rfc822;Ann@b.example"),
        ("", "utf-8;gr\\x{FC}n@b.example", " ORCPT=utf-8;gr\\x{FC}n@b.example"),
        ("", "UTF-8;grün@b.example", " ORCPT=UTF-8;gr\\x{FC}n@b.example"),
        ("", "utf-8;\N{GRINNING FACE}@b.example", " ORCPT=utf-8;\\x{1F600}@b.example"),
        ("", "", ""),
        ("ALWAYS", "ann@b.example", ""),
        ("NEVER,DELAY", "rfc822;", ""),
        ("SUCCESS,", ";ann", ""),
        ("SUCCESS SIZE=1", "rfc822;a b", ""),
        ("SUCCESS\r\nDATA", "rfc822;a\r\nDATA", ""),
        ("", "rfc822;grün@b.example", ""),
        ("", "rfc822;a+zz", ""),
        ("", "utf-8;a\u2028b\r\n", ""),
    ],
)
def test_notify_and_orcpt(notify: str, original: str, expected: str) -> None:
    made = parcel(ANN, BOB, dsn=((notify, original), ("", "")))
    plain = ["RCPT TO:<ann@b.example>", "RCPT TO:<bob@b.example>"]
    assert recipient_commands(made, DSN) == [plain[0] + expected, plain[1]]
    assert recipient_commands(made, {}) == plain


@given(texts=st.tuples(*[st.text(st.characters(codec="utf-8"), max_size=20)] * 4))
def test_no_text_breaks_out_of_its_place(texts: tuple[str, str, str, str]) -> None:
    ret, envid, notify, original = texts
    for prefix in ("", "rfc822;", "utf-8;"):
        made = parcel(ret=ret, envid=envid, dsn=((notify, prefix + original),))
        for line in (mail_command(made, DSN), *recipient_commands(made, DSN)):
            assert re.fullmatch(r"[!-~]+ [!-~]+( (RET|ENVID|NOTIFY|ORCPT)=[!-~]+)*", line)


def transmitted(ehlo: bytes, **options: Any) -> tuple[bytes, Any]:
    network = Network()
    connection, line = network.connection(ehlo)
    outcome = Outcome(connection.transmit(parcel(ANN, BOB, **options), answer_seconds=5.0, dot_seconds=5.0).done)
    said = line.heard()
    line.says(b"250 a\r\n" * 3)
    line.says(b"354 b\r\n")
    line.says(b"250 c\r\n")
    return said, outcome.value


def test_a_host_with_dsn_is_told_and_answers_for_it() -> None:
    wishes = {"ret": "HDRS", "envid": "E1", "dsn": (("SUCCESS", ""), ("NEVER", "rfc822;b@b.example"))}
    said, attempt = transmitted(b"250-mx\r\n250-PIPELINING\r\n250 DSN\r\n", **wishes)
    assert said == (
        b"MAIL FROM:<sender@a.example> RET=HDRS ENVID=E1\r\n"
        b"RCPT TO:<ann@b.example> NOTIFY=SUCCESS\r\n"
        b"RCPT TO:<bob@b.example> NOTIFY=NEVER ORCPT=rfc822;b@b.example\r\n"
    )
    assert attempt.delivered
    assert attempt.dsn
    said, attempt = transmitted(EHLO, **wishes)
    assert b"NOTIFY" not in said
    assert b"RET" not in said
    assert attempt.delivered
    assert not attempt.dsn
