"""Whatever the grammar of RFC 5321 makes is read as it is meant, written in one way, and read the same again."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.smtp.commands import Bad, Data, Hello, Mail, Noop, Rcpt, Rset, parse

# RFC 5321 4.1.2 and 4.1.3, RFC 5322 3.2.3; each is the text and what is meant by it.
atoms = st.text("abcXYZ019!#$%&'*+-/=?^_`{|}~", min_size=1, max_size=8)
dot_strings = st.lists(atoms, min_size=1, max_size=3).map(".".join).map(lambda text: (text, text))
quoted_signs = st.one_of(
    st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\').map(lambda sign: (sign, sign)),
    st.characters(min_codepoint=32, max_codepoint=126).map(lambda sign: (f"\\{sign}", sign)),
)
quoted_strings = st.lists(quoted_signs, max_size=12).map(
    lambda signs: ('"' + "".join(said for said, _ in signs) + '"', "".join(meant for _, meant in signs))
)
labels = st.from_regex(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,10}[A-Za-z0-9])?", fullmatch=True)
domains = st.lists(labels, min_size=1, max_size=4).map(".".join).map(lambda text: (text, text.lower()))
literals = st.one_of(
    st.ip_addresses(v=4).map(lambda ip: (f"[{ip}]", f"[{ip}]")),
    st.ip_addresses(v=6).map(lambda ip: (f"[IPv6:{ip.exploded.upper()}]", f"[IPv6:{ip}]")),
)
mailboxes = st.tuples(dot_strings | quoted_strings, domains | literals)
xtext = st.text("abcXYZ019;@.", min_size=1, max_size=10).map(lambda text: text + "+2B")
cases = st.sampled_from([str.upper, str.lower, str.title])
mail_parameters = st.fixed_dictionaries(
    {},
    optional={
        "SIZE": st.integers(0, 10**12).map(str), "BODY": st.sampled_from(["7BIT", "8bitmime"]), "SMTPUTF8": st.none(),
        "RET": st.sampled_from(["FULL", "hdrs"]), "ENVID": xtext,
    },
)  # fmt: skip
rcpt_parameters = st.fixed_dictionaries(
    {},
    optional={
        "NOTIFY": st.just("never")
        | st.lists(st.sampled_from(["SUCCESS", "failure", "Delay"]), min_size=1).map(",".join),
        "ORCPT": xtext.map("rfc822;{}".format),
    },
)  # fmt: skip


def written(parameters: dict[str, str | None], case: object) -> str:
    return "".join(f" {case(name)}" + ("" if value is None else f"={value}") for name, value in parameters.items())  # type: ignore[operator]


def unquoted(local: str) -> str:
    return re.sub(r"\\(.)", r"\1", local[1:-1]) if local.startswith('"') else local


@given(mailboxes, mail_parameters, cases)
@settings(max_examples=120)
def test_mail_says_what_is_meant(mailbox: tuple, parameters: dict[str, str | None], case: object) -> None:
    (local, meant), (domain, canonical) = mailbox
    line = f"{case('mail')} {case('from')}:<{local}@{domain}>{written(parameters, case)}"  # type: ignore[operator]
    command = parse(line.encode())
    assert isinstance(command, Mail) and command.sender is not None
    assert (unquoted(command.sender.local), command.sender.domain) == (meant, canonical)
    assert command.size == (int(parameters["SIZE"]) if "SIZE" in parameters else None)  # type: ignore[arg-type]
    assert command.eight_bit == (parameters.get("BODY") == "8bitmime")
    assert command.utf8 == ("SMTPUTF8" in parameters)
    assert command.ret == (parameters.get("RET") or "").upper()
    assert command.envid == (parameters.get("ENVID") or "")
    assert parse(f"MAIL FROM:<{command.sender}>".encode()) == Mail(command.sender)


@given(mailboxes, rcpt_parameters, cases)
@settings(max_examples=120)
def test_rcpt_says_what_is_meant(mailbox: tuple, parameters: dict[str, str | None], case: object) -> None:
    (local, meant), (domain, canonical) = mailbox
    line = f"{case('rcpt')} {case('to')}:<{local}@{domain}>{written(parameters, case)}"  # type: ignore[operator]
    command = parse(line.encode())
    assert isinstance(command, Rcpt)
    assert (unquoted(command.address.local), command.address.domain) == (meant, canonical)
    assert set(command.notify.split(",")) == set((parameters.get("NOTIFY") or "").upper().split(","))
    assert command.original == (parameters.get("ORCPT") or "")
    again = parse(f"RCPT TO:<{command.address}>".encode())
    assert again == Rcpt(command.address)
    # One mailbox has one spelling, however many ways there are to quote it.
    assert parse(f'RCPT TO:<"{meant}"@{domain}>'.encode()) == again or re.search(r'["\\]', meant)


@given(domains | literals, st.booleans(), cases)
def test_hello_and_what_takes_no_argument(domain: tuple[str, str], extended: bool, case: object) -> None:
    verb = case("ehlo" if extended else "helo")  # type: ignore[operator]
    assert parse(f"{verb} {domain[0]}".encode()) == Hello(domain[0], extended)
    for name, command in (("data", Data()), ("rset", Rset()), ("noop", Noop())):
        assert parse(case(name).encode()) == command  # type: ignore[operator]


signs = st.sampled_from(
    [*'<>@"\\[]:. ;=+\t\r\n\0', "MAIL FROM:", "RCPT TO:", "SMTPUTF8", "a", "b.example", "é", "。", "\x85"]
)


@given(st.sampled_from(["MAIL FROM:<", "RCPT TO:<"]), st.lists(signs, max_size=14).map("".join), st.booleans())
@settings(max_examples=250)
def test_nothing_that_is_taken_holds_a_control_character(start: str, rest: str, utf8: bool) -> None:
    command = parse((start + rest).encode(), utf8)
    if isinstance(command, Bad):
        assert command.reply.permanent
        return
    assert isinstance(command, Mail | Rcpt)
    address = command.sender if isinstance(command, Mail) else command.address
    texts = [str(address or ""), *([command.envid, command.ret] if isinstance(command, Mail) else [command.original])]
    assert all(text.isprintable() for text in texts)


@pytest.mark.parametrize("sign", [chr(point) for point in [*range(32), 127, 0x85, 0x2028, 0x202E, 0xFEFF]])
def test_no_control_character_is_taken_anywhere(sign: str) -> None:
    for line in (f"MAIL FROM:<a{sign}b@c.example> SMTPUTF8", f'MAIL FROM:<"a{sign}b"@c.example> SMTPUTF8',
                 f'MAIL FROM:<"a\\{sign}b"@c.example> SMTPUTF8', f"MAIL FROM:<a@c{sign}d.example> SMTPUTF8",
                 f"MAIL FROM:<a@c.example> ENVID=a{sign}b SMTPUTF8", f"EHLO a{sign}b"):  # fmt: skip
        assert isinstance(parse(line.encode()), Bad), line
