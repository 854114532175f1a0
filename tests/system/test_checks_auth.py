"""SPF, DKIM, ARC and DMARC over real SMTP and real DNS: what reaches the primary, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import authres
import pytest
from fakes.arc_sealing import sealed_by
from fakes.dkim_signing import ed25519_key, ed25519_record, rsa_key, rsa_record, signed, signed_with
from name_servers import Nsd
from programs import CHECKOUT, HOSTNAME, Gateway, RecordingPrimary, Stage, domain, free_port, letter, post

CHECKS = (
    "[check spf]\nuse = spf\n\n[check dkim]\nuse = dkim\n\n[check arc]\nuse = arc\ntrusted = list.example\n\n"
    "[check dmarc]\nuse = dmarc\n"
)
CLIENT = "127.0.0.1"


def text(value: str) -> str:
    """A TXT row; what is longer than 255 octets in several strings."""
    parts = [value[at : at + 200] for at in range(0, len(value), 200)]
    return "TXT " + " ".join(f'"{part}"' for part in parts)


ZONE = {
    "pass.example": [text(f"v=spf1 ip4:{CLIENT} -all"), "MX 10 mail.pass"],
    "mail.pass.example": [f"A {CLIENT}"],
    "mx.example": [text("v=spf1 mx:pass.example -all")],
    "fail.example": [text("v=spf1 -all exp=why.example")],
    "why.example": [text("%{i} does not send for %{d}")],
    "soft.example": [text("v=spf1 ~all")],
    "none.example": [text("nothing of the kind")],
    "deep.example": [text("v=spf1 include:i1.example include:i2.example redirect=pass.example")],
    "i1.example": [text("v=spf1 ip4:192.0.2.1 -all")],
    "i2.example": [text("v=spf1 include:i1.example ~all")],
    "macro.example": [text("v=spf1 exists:%{ir}.%{v}.%{l}._spf.%{d} -all")],
    "1.0.0.127.in-addr.someone._spf.macro.example": ["A 127.0.0.2"],
    "two.example": [text("v=spf1 -all"), text("v=spf1 +all")],
    "many.example": [text("v=spf1 " + "include:i1.example " * 11 + "-all")],
    "void.example": [text("v=spf1 a:v1.example a:v2.example a:v3.example -all")],
    "outside.example": [text("v=spf1 include:nowhere.test -all")],
    "rsa._domainkey.pass.example": [text(rsa_record(rsa_key()))],
    "ed._domainkey.pass.example": [text(ed25519_record())],
    "s._domainkey.list.example": [text(rsa_record(rsa_key()))],
    "s._domainkey.stranger.example": [text(rsa_record(rsa_key()))],
    "_dmarc.pass.example": [text("v=DMARC1; p=reject")],
    "_dmarc.bank.example": [text("v=DMARC1; p=reject; sp=quarantine")],
    "small._domainkey.pass.example": [text(rsa_record(rsa_key(768)))],
    "gone._domainkey.pass.example": [text("v=DKIM1; p=")],
}  # fmt: skip


@pytest.fixture(scope="module")
def primary(shared: Stage) -> RecordingPrimary:
    return shared.recording()


@pytest.fixture(scope="module")
def nsd(shared: Stage) -> Nsd:
    rows = "\n".join(f"{name}. {row}" for name, each in ZONE.items() for row in each)
    return shared._keep(Nsd(shared._room("nsd"), {"example": rows})).start()


@pytest.fixture(scope="module")
def gateway(shared: Stage, primary: RecordingPrimary, nsd: Nsd) -> Iterator[Gateway]:
    yield shared.gateway(f"{domain(primary.port)}\n[dns]\nservers = 127.0.0.1:{nsd.port}\n\n{CHECKS}")


def results(gateway: Gateway, primary: RecordingPrimary, octets: bytes, sender: str) -> list[tuple[str, str, str]]:
    """Method, result and the properties' values, as an independent parser reads them in what the primary gets."""
    answer = post(gateway.port, octets, sender=sender)
    assert answer.code == 250, answer
    content = primary.one(f" id {answer.id}".encode()).content
    head = content.partition(b"\r\n\r\n")[0].replace(b"\r\n\t", b" ").decode()
    (line,) = [line for line in head.split("\r\n") if line.lower().startswith("authentication-results:")]
    read = authres.AuthenticationResultsHeader.parse(line)
    assert read.authserv_id == HOSTNAME
    return [
        (result.method, result.result, " ".join(f"{each.type}.{each.name}={each.value}" for each in result.properties))
        for result in read.results
    ]


@pytest.mark.parametrize(
    ("sender", "result"),
    [
        ("pass.example", "pass"),
        ("mx.example", "pass"),
        ("fail.example", "fail"),
        ("soft.example", "softfail"),
        ("none.example", "none"),
        ("nothing.example", "none"),
        ("deep.example", "pass"),
        ("macro.example", "pass"),
        ("two.example", "permerror"),
        ("many.example", "permerror"),
        ("void.example", "permerror"),
        ("outside.example", "temperror"),
        ("nowhere.test", "temperror"),
    ],
)
def test_spf(gateway: Gateway, primary: RecordingPrimary, sender: str, result: str) -> None:
    read = results(gateway, primary, letter("spf"), f"someone@{sender}")

    assert ("spf", result, f"smtp.mailfrom={sender}") in read


def test_the_null_sender_is_judged_by_its_hello(gateway: Gateway, primary: RecordingPrimary) -> None:
    read = results(gateway, primary, letter("bounce"), "")
    assert read[0] == ("spf", "none", "smtp.helo=client.stranger.example")


MAIL = letter("signed", b"Some text.\r\n \t More of it. \r\n\r\n")


@pytest.mark.parametrize(
    ("octets", "found"),
    [
        (signed(MAIL, selector="rsa", domain="pass.example"), [("pass", "rsa", "rsa-sha256")]),
        (signed(MAIL, selector="rsa", domain="pass.example", forms="simple/simple"), [("pass", "rsa", "rsa-sha256")]),
        (signed_with({"s": "ed", "d": "pass.example", "a": "ed25519-sha256"}, MAIL, ed25519_key()),
         [("pass", "ed", "ed25519-sha256")]),
        (signed(MAIL, selector="rsa", domain="pass.example").replace(b"More", b"Less"),
         [("fail", "rsa", "rsa-sha256")]),
        (signed(signed(MAIL, selector="rsa", domain="pass.example"), selector="gone", domain="pass.example"),
         [("pass", "rsa", "rsa-sha256"), ("permerror", "gone", "rsa-sha256")]),
        (signed(MAIL + b"line \t of a long text\r\n" * 20000, selector="rsa", domain="pass.example"),
         [("pass", "rsa", "rsa-sha256")]),
    ],
    ids=["relaxed", "simple", "ed25519", "altered", "two", "large"],
)  # fmt: skip
def test_dkim(gateway: Gateway, primary: RecordingPrimary, octets: bytes, found: list[tuple[str, str, str]]) -> None:
    read = [each for each in results(gateway, primary, octets, "someone@pass.example") if each[0] == "dkim"]

    assert read == [
        ("dkim", result, f"header.d=pass.example header.s={selector} header.a={algorithm}")
        for result, selector, algorithm in found
    ]


@pytest.mark.parametrize(
    ("author", "result", "domain"),
    [
        ("From: Ann <ann@pass.example>", "pass", "pass.example"),
        ("From: ann@news.pass.example", "pass", "news.pass.example"),
        ("From: boss@bank.example", "fail", "bank.example"),
        ("From: boss@" + "x." * 60 + "bank.example", "fail", "x." * 60 + "bank.example"),
        ("From: ann@none.example", "none", "none.example"),
        ("From: ann@nowhere.test", "temperror", "nowhere.test"),
        ("From: ann@pass.example\r\nFrom: boss@bank.example", "fail", "bank.example"),
        ("From: ann@pass.example, boss@bank.example", "fail", "bank.example"),
        ("From: boss@bank.example <ann@pass.example>", "fail", "bank.example"),
        ("From: \"boss@bank.example\" <ann@pass.example>", "pass", "pass.example"),
        (" From: boss@bank.example\r\nFrom: ann@pass.example", "fail", "bank.example"),
        ("From : boss@bank.example", "fail", "bank.example"),
        ("From:\r\n boss@bank.example", "fail", "bank.example"),
        ("From: All: ann@pass.example;", "permerror", "pass.example"),
        ("From: =?utf-8?q?boss=40bank.example?= <ann@pass.example>", "permerror", "pass.example"),
        ("Subject: nobody", "permerror", ""),
    ],
)
def test_dmarc(gateway: Gateway, primary: RecordingPrimary, author: str, result: str, domain: str) -> None:
    octets = f"{author}\r\nTo: <user@here.example>\r\n\r\nHello.\r\n".encode()
    read = [each for each in results(gateway, primary, octets, "someone@pass.example") if each[0] == "dmarc"]
    assert read == [("dmarc", result, f"header.from={domain}" if domain else "")]


def by_pass(more: dict[str, str | None], mail: bytes, key: object = None) -> bytes:
    return signed_with({"s": "rsa", "d": "pass.example"} | more, mail, key)


OURS = MAIL.replace(b"someone@stranger.example", b"ann@pass.example")


@pytest.mark.parametrize(
    ("octets", "outcome", "reason"),
    [
        (by_pass({}, OURS), "pass", ""),
        (signed(OURS, selector="rsa", domain="pass.example", length=True), "pass", ""),
        (signed(OURS, selector="rsa", domain="pass.example", length=True) + b"<b>buy</b>\r\n",
         "policy", "the end of the body is not signed"),
        (by_pass({"l": "100000"}, OURS), "permerror", "l= is more than the body"),
        (b"Subject: evil\r\n" + by_pass({}, OURS), "policy", "a second subject is not signed"),
        (b"From: boss@pass.example\r\n" + by_pass({}, OURS), "policy", "a second from is not signed"),
        (b"Subject: evil\r\n" + by_pass({"h": "from:subject:subject"}, OURS), "fail", "the header has been altered"),
        (by_pass({"s": "small"}, OURS, rsa_key(768)), "fail", "a key of 768 bits proves nothing"),
        (by_pass({"a": "rsa-sha1"}, OURS), "fail", "rsa-sha1 proves nothing any more"),
        (by_pass({"i": "@evil.example"}, OURS), "permerror", "i= is not of d="),
        (b"".join(by_pass({"b": "AAAA", "s": f"s{n}"}, b"") for n in range(100)) + OURS, "permerror", "no key"),
    ],
)  # fmt: skip
def test_signature_games_give_no_credit(
    gateway: Gateway, primary: RecordingPrimary, octets: bytes, outcome: str, reason: str
) -> None:
    answer = post(gateway.port, octets, sender="someone@none.example")
    content = primary.one(f" id {answer.id}".encode()).content
    said = f"dkim={outcome} ({reason}) " if reason else f"dkim={outcome} header.d="
    assert f"\t{said}".encode() in content
    assert b"\tdmarc=%s (p=reject) header.from=pass.example" % (b"pass" if outcome == "pass" else b"fail") in content


@pytest.mark.parametrize(
    ("sealer", "altered", "arc", "comment"),
    [
        ("list.example", False, "pass", "p=reject softened by arc of list.example"),
        ("list.example", True, "fail", "p=reject"),
        ("stranger.example", False, "pass", "p=reject"),
    ],
)
def test_arc(
    gateway: Gateway, primary: RecordingPrimary, sealer: str, altered: bool, arc: str, comment: str
) -> None:
    octets = sealed_by(sealer, b"From: boss@bank.example\r\n\r\nHello.\r\n", "dmarc=pass header.from=bank.example")
    answer = post(gateway.port, octets + b"More.\r\n" * altered, sender="someone@pass.example")
    content = primary.one(f" id {answer.id}".encode()).content
    assert f"\tarc={arc} (".encode() in content
    assert f"\tdmarc=fail ({comment}) header.from=bank.example".encode() in content
    score = re.search(rb"dmarc=(fail_[a-z]+)", content)
    assert score is not None and score[1] == (b"fail_none" if "softened" in comment else b"fail_reject")


def test_a_key_that_cannot_be_looked_up_is_temporary(gateway: Gateway, primary: RecordingPrimary) -> None:
    octets = signed(MAIL, domain="nowhere.test")
    assert ("dkim", "temperror", "header.d=nowhere.test header.s=s header.a=rsa-sha256") in results(
        gateway, primary, octets, "someone@pass.example"
    )


def test_explain_tells_why(gateway: Gateway, primary: RecordingPrimary) -> None:
    answer = post(gateway.port, letter("why"), sender="someone@fail.example")
    assert f"fail for mailfrom fail.example ({CLIENT} does not send for fail.example)" in gateway.command(
        "explain", answer.id
    )


def test_a_fail_is_refused_where_the_ini_says_so_and_dns_trouble_never_is(
    play: Stage, nsd: Nsd, primary: RecordingPrimary
) -> None:
    sections = f"{domain(primary.port)}\n{CHECKS}".replace("use = spf", "use = spf\nweight.fail = reject")
    strict = play.gateway(f"{sections}\n[dns]\nservers = 127.0.0.1:{nsd.port}\n")
    answer = post(strict.port, letter("refused"), sender="someone@fail.example")
    assert (answer.code, answer.enhanced[0]) == (550, "5")

    deaf = play.gateway(f"{sections}\n[dns]\nservers = 127.0.0.1:{free_port()}\ntimeout = 1s\n")
    read = results(deaf, primary, signed(MAIL, selector="rsa", domain="pass.example"), "someone@fail.example")
    assert {(method, result) for method, result, _ in read} == {
        (method, "temperror") for method in ("spf", "dkim", "dmarc")
    } | {("arc", "none")}


def test_the_suite_of_rfc_7208_over_real_sockets() -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "spf_suite_by_udp.py")],
        cwd=CHECKOUT,
        env={"PYTHONPATH": f"{CHECKOUT}:{CHECKOUT}/tests"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert (told["cases"], told["wrong"]) == (203, [])
    assert told["most_asked"] <= 30
