"""Files in real mail through a real gateway: what is a program by another name, two archives deep, does not come in."""

from __future__ import annotations

import base64
import gzip

import pytest
from fakes.archive_samples import PE, flagged, zipped
from programs import Gateway, RecordingPrimary, Stage, Wire, domain, letter, post, stuffed, until

SECTION = """
[check files]
use = attachments
weight.forbidden = reject
weight.too_deep = reject
weight.encrypted = 5
"""


@pytest.fixture(scope="module")
def primary(shared: Stage) -> RecordingPrimary:
    return shared.recording()


@pytest.fixture(scope="module")
def gateway(shared: Stage, primary: RecordingPrimary) -> Gateway:
    return shared.gateway(domain(primary.port) + SECTION)


def attached(name: str, octets: bytes, text: bytes = b"see there") -> bytes:
    head = b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n'
    body = b"--b\r\nContent-Type: text/plain\r\n\r\n%b\r\n--b\r\nContent-Type: application/zip\r\n" % text
    body += b'Content-Disposition: attachment; filename="%b"\r\n' % name.encode()
    body += b"Content-Transfer-Encoding: base64\r\n\r\n"
    return letter("files", body + base64.encodebytes(octets).replace(b"\n", b"\r\n") + b"\r\n--b--\r\n", head)


def test_a_program_two_archives_deep_is_refused_and_explained(gateway: Gateway) -> None:
    answer = post(gateway.port, attached("a.zip", zipped({"b.zip": zipped({"invoice.pdf": PE})})))
    assert answer.code == 554
    told = until("it is explained", lambda: gateway.command("explain", answer.id, status=None))
    assert "part 1.2 a.zip > b.zip > invoice.pdf is a program or library of Windows or DOS" in told


def test_a_bomb_is_refused_and_others_are_served_meanwhile(gateway: Gateway, primary: RecordingPrimary) -> None:
    bomb = gzip.compress(bytes(16 * 2**20)) * 100
    with Wire(gateway.port) as wire:
        wire.hello()
        for answer in wire.envelope("someone@stranger.example", "user@here.example"):
            assert answer.code < 400
        assert wire.ask("DATA").code == 354
        wire.send(stuffed(attached("a.gz", bomb)) + b".\r\n")
        assert post(gateway.port, letter("meanwhile")).code == 250
        assert wire.reply().code == 554


def nested(depth: int) -> bytes:
    return b"".join(b"Content-Type: multipart/mixed; boundary=%d.\r\n\r\n--%d.\r\n" % (n, n) for n in range(depth))


MONSTERS = {
    "parts": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 100_000,
    "depth": nested(10_000),
    "messages": b"Content-Type: message/rfc822\r\n\r\n" * 1000,
    "boundaries": b"".join(b"Content-Type: multipart/mixed; boundary=%b\r\n\r\n--%b\r\n" % (b"a" * n, b"a" * n)
                           for n in range(1, 60)) + b"--a\r\n" * 100_000,
    "parameters": b"Content-Type: text/plain" + b";\r\n a=b" * 10_000 + b"\r\n\r\nx\r\n",
    "parentheses": b"Content-Type: text/plain\r\n" + b" (((((((((((((((((((((((((((((\r\n" * 6000 + b"\r\nx\r\n",
}  # fmt: skip


@pytest.mark.parametrize("octets", MONSTERS.values(), ids=list(MONSTERS))
def test_every_monster_has_a_verdict(gateway: Gateway, octets: bytes) -> None:
    """One that is not "come again": it would."""
    answer = post(gateway.port, b"From: <someone@stranger.example>\r\nMIME-Version: 1.0\r\n" + octets)
    assert answer.code in (250, 552, 554), answer
    assert "Traceback" not in gateway.errors.read_text()


def test_what_is_harmless_or_only_weighed_arrives_with_its_mark(gateway: Gateway, primary: RecordingPrimary) -> None:
    for name, octets, mark in (
        ("a.zip", zipped({"b.txt": b"hello"}), b"files=clean"),
        ("b.zip", flagged(zipped({"b.txt": b"hello"}), 1), b"files=encrypted(5)"),
    ):
        answer = post(gateway.port, attached(name, octets, text=name.encode() * 50_000))
        assert answer.code == 250
        found = [mail.content for mail in primary.received() if name.encode() * 9 in mail.content]
        assert len(found) == 1 and mark in found[0].replace(b"\r\n\t", b" ")
