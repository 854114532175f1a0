"""Content that is built to get past whoever looks at it, through a whole gateway and a real clamd: a virus that one
reader of MIME sees and another does not, and archives that are larger than anybody can look at."""

from __future__ import annotations

import base64
import binascii
import gzip
import lzma
import sys
from collections.abc import Iterator

import pytest
from fakes.archive_samples import tnef, without_end, zips_in_zips
from programs import Gateway, RecordingPrimary, Stage, domain, need, post
from requiring import needed
from scanners import EICAR, Clamd

TYPE = b"Content-Type: application/octet-stream\r\n"
ENCODING = b"Content-Transfer-Encoding: base64\r\n"


def coded(octets: bytes) -> bytes:
    return base64.encodebytes(octets).replace(b"\n", b"\r\n")


SECRET = coded(EICAR)
FILE = TYPE + ENCODING + b"\r\n" + SECRET


def mixed(part: bytes, parameters: bytes = b"; boundary=b", end: bytes = b"\r\n--b--\r\n") -> bytes:
    return b"Content-Type: multipart/mixed" + parameters + b"\r\n\r\n--b\r\n" + part + end


UUENCODED = b"".join(binascii.b2a_uu(EICAR[at : at + 45]) for at in range(0, len(EICAR), 45)).replace(b"\n", b"\r\n")
AMBIGUOUS = {
    "two boundaries, the first": mixed(FILE, b"; boundary=b; boundary=c"),
    "two boundaries, the second": mixed(FILE, b"; boundary=c; boundary=b"),
    "a boundary in pieces": mixed(FILE, b"; boundary*0=a; boundary*1=b").replace(b"--b", b"--ab"),
    "a boundary that is percent-encoded": mixed(FILE, b"; boundary*=us-ascii''%62"),
    "a boundary with a comment": mixed(FILE, b"; boundary=(x)b"),
    "a boundary that begins another": mixed(FILE, b"; boundary=bb").replace(b"--b\r", b"--b\r\n\r\n--bb\r"),
    "no boundary": mixed(FILE, b""),
    "two types, the first": mixed(FILE).replace(b"\r\n\r\n", b"\r\nContent-Type: text/plain\r\n\r\n", 1),
    "two types, the second": b"Content-Type: text/plain\r\n" + mixed(FILE),
    "two encodings, the first": mixed(TYPE + ENCODING + b"Content-Transfer-Encoding: 7bit\r\n\r\n" + SECRET),
    "two encodings, the second": mixed(TYPE + b"Content-Transfer-Encoding: 7bit\r\n" + ENCODING + b"\r\n" + SECRET),
    "a comment in the encoding": mixed(TYPE + ENCODING.replace(b": ", b": (x)") + b"\r\n" + SECRET),
    "a blank before a colon": mixed(TYPE + ENCODING.replace(b":", b" :") + b"\r\n" + SECRET),
    "junk in base64": mixed(TYPE + ENCODING + b"\r\n" + SECRET.replace(b"U", b"!U")),
    "no final boundary": mixed(FILE, end=b""),
    "behind the final boundary": mixed(b"\r\ntext") + b"--b\r\n" + FILE + b"\r\n--b--\r\n",
    "an encoded word for a name": mixed(
        TYPE + b'Content-Disposition: attachment; filename="=?utf-8?b?eC50eHQ=?="\r\n' + ENCODING + b"\r\n" + SECRET
    ),
    "uuencode": b"\r\nbegin 644 x\r\n" + UUENCODED + b"`\r\nend\r\n",
    "Outlook's envelope": mixed(
        b"Content-Type: application/ms-tnef; name=winmail.dat\r\n" + ENCODING + b"\r\n" + coded(tnef({"x": EICAR}))
    ),
    "a piece of a message": b"Content-Type: message/partial; id=a; number=1; total=2\r\n\r\n" + mixed(FILE),
}  # fmt: skip


@pytest.fixture(scope="module")
def primary(shared: Stage) -> RecordingPrimary:
    return shared.recording()


@pytest.fixture(scope="module")
def gateway(shared: Stage, primary: RecordingPrimary, clamd: Clamd) -> Iterator[Gateway]:
    """Nothing is refused, so that what both say of a message arrives with it."""
    yield shared.gateway(
        domain(primary.port)
        + f"[check av]\nuse = clamav\nservers = unix:{clamd.path}\ntimeout = 20s\nweight.infected = 2\n"
        "[check files]\nuse = attachments\nweight.malformed = 1\n"
    )


def test_a_virus_behind_an_ambiguity_is_caught_or_marked(gateway: Gateway, primary: RecordingPrimary) -> None:
    for name, octets in AMBIGUOUS.items():
        head = f"From: <a@stranger.example>\r\nSubject: ({name})\r\nMIME-Version: 1.0\r\n".encode()
        assert post(gateway.port, head + octets).code == 250, name
    said = {mail.field("Subject")[0][1:-1]: mail.field("X-Spam-Checks")[0].split() for mail in primary.received()}
    assert said.keys() == AMBIGUOUS.keys()
    caught = {name for name, words in said.items() if "av=infected(2)" in words}
    marked = {name for name, words in said.items() if "files=malformed(1)" in words}
    assert len(caught) >= 18 and len(caught | marked) == len(said) == 20, said
    # In these there is nothing that readers would take for different things; they are looked into.
    assert said.keys() - marked <= {"an encoded word for a name", "uuencode", "Outlook's envelope"}


# --- archives ---------------------------------------------------------------------------------------------------------

MB, GB = 2**20, 2**30


def zstandard(octets: bytes) -> bytes:
    packed: bytes = needed("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd").compress(octets)
    return packed


BOMBS = {
    "zips in zips": lambda: zips_in_zips(size=MB),
    "gzip in gzip": lambda: gzip.compress(gzip.compress(gzip.compress(bytes(16 * MB)))),
    "10 GB of xz": lambda: without_end(lzma.compress(bytes(MB)), 10 * GB, MB),
    "10 GB of zstd": lambda: without_end(zstandard(bytes(16 * MB)), 10 * GB, 16 * MB),
}


@pytest.fixture(scope="module")
def bounded(shared: Stage, primary: RecordingPrimary) -> Gateway:
    """With a clamd that says when it has not looked at all there is."""
    need("clamd")
    limits = "AlertExceedsMax yes\nMaxScanSize 4M\nMaxFiles 20\n"
    clamd = shared.partner("clamd", lambda folder: Clamd(folder, more=limits)).start()
    return shared.gateway(
        domain(primary.port)
        + f"[check av]\nuse = clamav\nservers = unix:{clamd.path}\ntimeout = 20s\nweight.infected = 2\n"
        "[check files]\nuse = attachments\ntimeout = 20s\nweight.too_deep = 1\n"
    )


@pytest.mark.parametrize("bomb", BOMBS)
def test_an_archive_that_nobody_can_look_through_is_not_clean(
    bounded: Gateway, primary: RecordingPrimary, bomb: str
) -> None:
    """Neither to us nor to a clamd that was asked to say so; what follows is the operator's choice."""
    head = f"From: <a@stranger.example>\r\nSubject: {bomb}\r\nMIME-Version: 1.0\r\n".encode()
    octets = mixed(TYPE + ENCODING + b"\r\n" + coded(BOMBS[bomb]()))
    assert post(bounded.port, head + octets).code == 250
    [found] = primary.one(f"Subject: {bomb}\r\n".encode()).field("X-Spam-Checks")
    # There are versions of clamd that do not know zstd.
    assert found in ("av=infected(2) files=too_deep(1)", *["av=clean(0) files=too_deep(1)"] * ("zstd" in bomb))
