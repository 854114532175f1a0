"""What the attachments check says of files, in messages and in archives in messages, and where it works."""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from fakes.archive_samples import (
    HELLO,
    PE,
    SEVEN,
    flagged,
    rar5,
    seven,
    tarred,
    tnef,
    without_end,
    zipped,
    zips_in_zips,
)
from requiring import needed
from twisted.internet.defer import Deferred, succeed

from inboundmx.app.values import kind
from inboundmx.checks import attachment_look, attachments
from inboundmx.checks.api import Case, Tools
from inboundmx.checks.attachments import TYPES, Attachments
from inboundmx.checks.walking import AT_ONCE
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import Finding
from inboundmx.model.message import SMALL_BODY, Body, Message
from inboundmx.model.session import Session
from inboundmx.model.settings import MB, Settings
from inboundmx.policy.file_types import WORDS
from inboundmx.policy.mime import FLAWS
from inboundmx.ports import Unavailable
from inboundmx.prompt import promptly

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 504
PDF = b"%PDF-1.7\nharmless\n"


def wide(text: str) -> bytes:
    return text.encode("utf-16-le")


def message(*files: tuple[str, bytes], text: str = "see there") -> bytes:
    parts = [f"Content-Type: text/plain\r\n\r\n{text}".encode()]
    for name, octets in files:
        encoded = base64.encodebytes(octets).replace(b"\n", b"\r\n")
        head = f'Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename="{name}"\r\n'
        parts.append(head.encode() + b"Content-Transfer-Encoding: base64\r\n\r\n" + encoded)
    head = b"From: ann@a.example\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    return head + b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


class Threads:
    """An Offload that works at once, and counts."""

    def __init__(self) -> None:
        self.works: list[str] = []

    def run(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        self.works.append(work.__name__)
        return succeed(work(*arguments))


class Files:
    def __init__(self, octets: bytes) -> None:
        self.octets = octets

    def whole(self, body: Body) -> bytes:
        return self.octets


class Clock:
    """Each look at it takes so long."""

    def __init__(self, step: float = 0.0) -> None:
        self.time = 0.0
        self.step = step

    def monotonic(self) -> float:
        self.time += self.step
        return self.time


def asked(
    octets: bytes, options: Mapping[str, Any] | None = None, step: float = 0.0, reader: Any = None
) -> tuple[Finding, Threads]:
    threads, nothing = Threads(), None
    tools: Any = Tools(
        Settings(), Clock(step), nothing, nothing, nothing, threads, Files(octets), nothing, macros=reader
    )  # type: ignore[arg-type]
    body = Body(len(octets), octets[:SMALL_BODY], None if len(octets) <= SMALL_BODY else "large", b"")
    case = Case(Session("s", "192.0.2.1", 4000, "192.0.2.25", 0.0), Envelope(None), None, Message("m", body))
    came: list[Any] = []
    assert promptly(Attachments(options or {}, tools).examine(case), came.append, came.append) is None
    assert isinstance(came[0], Finding), came[0]
    assert came[0].detail.isprintable()
    return came[0], threads


def said(octets: bytes, **options: Any) -> tuple[str, str]:
    finding, _ = asked(octets, options)
    return finding.outcome, finding.detail


def one(name: str, octets: bytes, **options: Any) -> str:
    return said(message((name, octets)), **options)[0]


def uuencoded(octets: bytes) -> bytes:
    return b"".join(binascii.b2a_uu(octets[at : at + 45]) for at in range(0, len(octets), 45))


def in_mail_in_zip(name: str, octets: bytes) -> bytes:
    return message(("a.zip", zipped({"b.eml": message((name, octets))})))


BOMB = gzip.compress(bytes(8 * MB))
WORD = {"[Content_Types].xml": b"<Types/>", "word/document.xml": b"<w:document/>"}

CASES = {
    "nothing attached": (message(), "clean"),
    "a document": (message(("a.pdf", PDF)), "clean"),
    "a name": (message(("a.pdf.exe", b"text")), "forbidden"),
    "a name in disguise": (message(("a.exe. ", b"text")), "forbidden"),
    "a program by another name": (message(("a.pdf", PE)), "forbidden"),
    "a program in an archive": (message(("a.zip", zipped({"b.pdf": PE}))), "forbidden"),
    "in an archive in an archive": (message(("a.zip", zipped({"b.dat": zipped({"c.pdf": PE})}))), "forbidden"),
    "in a compressed tar": (message(("a.tgz", gzip.compress(tarred({"c.pdf": PE})))), "forbidden"),
    "in 7z": (message(("a.7z", seven("lzma2"))), "forbidden"),
    "in Outlook's envelope": (message(("winmail.dat", tnef({"c.pdf": PE}))), "forbidden"),
    "listed in RAR": (message(("a.rar", rar5(("c.exe", False)))), "forbidden"),
    "RAR": (message(("a.rar", rar5(("c.pdf", False)))), "clean"),
    "behind something else": (message(("a.pdf", PDF + zipped({"b.pdf": PE}))), "forbidden"),
    "mail with a program in an archive": (in_mail_in_zip("c.pdf", PE), "forbidden"),
    "mail with a name in an archive": (message(("a.zip", zipped({"b.EML ": message(("evil.js", b"x"))}))), "forbidden"),
    "mail in mail in an archive in mail": (message(("a.eml", in_mail_in_zip("c.mht", in_mail_in_zip("d.dat", PE)))),
                                           "forbidden"),
    "7z in mail in an archive": (in_mail_in_zip("c.7z", seven("lzma2")), "forbidden"),
    "a message in mail in an archive": (message(("a.zip", zipped({
        "b.eml": b"Content-Type: message/rfc822\r\n\r\n" + message(("c.pdf", PE))}))), "forbidden"),
    "behind something else in mail in an archive": (in_mail_in_zip("c.pdf", PDF + zipped({"d.pdf": PE})), "forbidden"),
    "compressed mail": (message(("a.eml.gz", gzip.compress(message(("c.pdf", PE))))), "forbidden"),
    "mail in uuencode": (b"\r\nbegin 644 x.eml\r\n" + uuencoded(message(("c.pdf", PE))) + b"`\nend\r\n", "forbidden"),
    "large mail in an archive": (
        message(("a.zip", zipped({"b.eml": message(("c.pdf", PE), text="x" * 200_000)}))), "forbidden"),
    "harmless mail in an archive": (in_mail_in_zip("c.pdf", PDF), "clean"),
    "mail that hides something in an archive": (
        message(("a.zip", zipped({"b.eml": message(("c.pdf", PDF))[:-7]}))), "malformed"),
    "mail in mail, in archives": (
        in_mail_in_zip("a.eml", in_mail_in_zip("b.eml", in_mail_in_zip("c.pdf", PDF))), "too_deep"),
    "mail by one name, a program by another": (
        b"Content-Type: application/octet-stream; name=x.eml\r\n"
        b"Content-Disposition: attachment; filename=evil.js\r\n\r\nalert(1)", "forbidden"),
    "a harmless archive": (message(("a.zip", zipped({"b.pdf": PDF}))), "clean"),
    "uuencode": (b"\r\nbegin 644 x\r\n$34%22P  \r\n`\r\nend\r\n", "clean"),
    "a program in uuencode": (b"\r\nbegin 644 x\r\n$35H``   \r\n`\r\nend\r\n", "forbidden"),
    "a name in uuencode": (b"\r\nbegin 644 x.scr\r\n$35H``   \r\n`\r\nend\r\n", "forbidden"),
    "encrypted": (message(("a.zip", flagged(zipped({"b.pdf": PDF}), 1))), "encrypted"),
    "all of it encrypted": (message(("a.7z", seven("sealed"))), "encrypted"),
    "an encrypted document": (message(("a.docx", OLE + wide("EncryptedPackage"))), "encrypted"),
    "an old macro": (message(("a.doc", OLE + wide("_VBA_PROJECT"))), "macro"),
    "a macro": (message(("a.docm", zipped(WORD | {"word/vbaProject.bin": OLE}))), "macro"),
    "an old document within a new": (
        message(("a.docx", zipped(WORD | {"word/embeddings/x.bin": OLE + wide("_VBA_PROJECT")}))), "macro"),
    "a macro in text": (message(("a.doc", b"<w:binData w:name='editdata.mso'>")), "macro"),
    "a new document": (message(("a.docx", zipped(WORD))), "clean"),
    "a bomb": (message(("a.gz", BOMB)), "too_deep"),
    "a bomb in an archive": (message(("a.zip", zipped({"b.gz": BOMB}))), "too_deep"),
    "archives in archives": (message(("a.gz", gzip.compress(gzip.compress(gzip.compress(
        gzip.compress(gzip.compress(gzip.compress(PDF)))))))), "too_deep"),
    "too many parts": (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 2000, "too_deep"),
    "a broken archive": (message(("a.zip", zipped({"b.pdf": PDF})[:-40])), "malformed"),
    "a lying archive": (message(("a.zip", zipped({"x": PDF}) * 2)), "malformed"),
    "message/partial": (b"Content-Type: message/partial; number=1; total=2; id=a\r\n\r\nx", "malformed"),
    "no final boundary": (message(("a.pdf", PDF))[:-7], "malformed"),
    "two boundaries": (b"Content-Type: multipart/mixed; boundary=b; boundary=c\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n",
                       "malformed"),
    "a worse thing beside": (message(("a.zip", flagged(zipped({"b.pdf": PDF}), 1)), ("b.exe", HELLO)), "forbidden"),
}  # fmt: skip


@pytest.mark.parametrize(("octets", "outcome"), CASES.values(), ids=list(CASES))
def test_outcomes(octets: bytes, outcome: str) -> None:
    small, _ = asked(octets)
    assert small.outcome == outcome, small.detail
    # The same in a large message, all of which is looked at in a thread.
    padded = b"X-Large: " + b"x" * 900 + b"\r\n"
    large, threads = asked(padded * 100 + octets)
    assert threads.works
    assert large.outcome == outcome, large.detail


SECRET = base64.encodebytes(PE).replace(b"\n", b"\r\n")
TYPE = b"Content-Type: application/octet-stream\r\n"
ENCODING = b"Content-Transfer-Encoding: base64\r\n"


def mixed(part: bytes, parameters: bytes = b"; boundary=b", end: bytes = b"\r\n--b--\r\n") -> bytes:
    return b"Content-Type: multipart/mixed" + parameters + b"\r\n\r\n--b\r\n" + part + end


FILE = TYPE + ENCODING + b"\r\n" + SECRET
# A program where one reader shows it and another does not even see a file.
DISGUISES = {
    "two boundaries, the first": mixed(FILE, b"; boundary=b; boundary=c"),
    "two boundaries, the second": mixed(FILE, b"; boundary=c; boundary=b"),
    "a boundary in pieces": mixed(FILE, b"; boundary*0=\"\"; boundary*1=b"),
    "a boundary that is percent-encoded": mixed(FILE, b"; boundary*=us-ascii''%62"),
    "a boundary with a comment": mixed(FILE, b"; boundary=(x)b"),
    "a boundary that nobody quoted": mixed(FILE, b"; boundary=b c").replace(b"--b", b"--b c"),
    "no boundary": mixed(FILE, b""),
    "a boundary that begins another": mixed(FILE, b"; boundary=bb").replace(b"--b\r", b"--b\r\n\r\n--bb\r"),
    "two types": b"Content-Type: text/plain\r\n" + mixed(FILE),
    "two types, the other way": mixed(FILE).replace(b"\r\n\r\n", b"\r\nContent-Type: text/plain\r\n\r\n", 1),
    "a type with a blank before its colon": mixed(FILE).replace(b"Content-Type:", b"Content-Type :", 1),
    "a type behind a line that is no field": b"what is this\r\n" + mixed(FILE),
    "two encodings": mixed(TYPE + b"Content-Transfer-Encoding: 7bit\r\n" + ENCODING + b"\r\n" + SECRET),
    "a comment in the encoding": mixed(TYPE + ENCODING.replace(b": ", b": (x)") + b"\r\n" + SECRET),
    "more behind the encoding": mixed(TYPE + ENCODING.replace(b"64", b"64; x") + b"\r\n" + SECRET),
    "a quoted encoding": mixed(TYPE + ENCODING.replace(b"base64", b'"base64"') + b"\r\n" + SECRET),
    "junk in base64": mixed(TYPE + ENCODING + b"\r\n" + SECRET.replace(b"A", b"!A")),
    "a padding in the middle of base64": mixed(TYPE + ENCODING + b"\r\nTQ==\r\n" + base64.b64encode(PE[1:])),
    "no final boundary": mixed(FILE, end=b""),
    "behind the final boundary": mixed(b"\r\ntext") + b"--b\r\n" + FILE + b"\r\n--b--\r\n",
    "before the first boundary": mixed(b"\r\ntext").replace(b"\r\n\r\n", b"\r\n\r\n--c\r\n" + FILE + b"--c--\r\n", 1),
    "uuencode": b"\r\nbegin 644 x\r\n" + uuencoded(PE) + b"`\nend\n",
    "Outlook's envelope": mixed(TYPE + ENCODING + b"\r\n" + base64.encodebytes(tnef({"x": PE}))),
    "a piece of a message": b"Content-Type: message/partial; id=a; number=1; total=2\r\n\r\n" + mixed(FILE),
    "content elsewhere": b"Content-Type: message/external-body; access-type=URL; URL=http://a.example/x\r\n\r\n" + FILE,
    "a message within, encoded": b"Content-Type: message/rfc822\r\n" + ENCODING + b"\r\n"
        + base64.encodebytes(mixed(FILE)),
    "a multipart that is encoded": mixed(FILE).replace(b"\r\n", b"\r\n" + ENCODING, 1).partition(b"\r\n\r\n")[0]
        + b"\r\n\r\n" + base64.encodebytes(b"--b\r\n" + FILE + b"\r\n--b--\r\n"),
    "a message as a file": mixed(b"Content-Type: application/octet-stream; name=x.eml\r\n" + ENCODING + b"\r\n"
        + base64.encodebytes(mixed(FILE))),
    "lines that end in CR": mixed(FILE).replace(b"\r\n--b", b"\r--b"),
    "octets of 0": mixed(FILE).replace(b"boundary=b", b"boundary=b\0"),
    "a part without a header": mixed(SECRET),
}  # fmt: skip


@pytest.mark.parametrize("octets", DISGUISES.values(), ids=list(DISGUISES))
def test_no_disguise_is_clean(octets: bytes) -> None:
    outcome, detail = said(b"From: ann@a.example\r\nMIME-Version: 1.0\r\n" + octets)
    assert outcome in ("forbidden", "malformed"), detail


def test_most_disguises_are_seen_through() -> None:
    seen = [said(b"From: ann@a.example\r\n" + octets)[0] == "forbidden" for octets in DISGUISES.values()]
    assert sum(seen) >= 24


def test_the_detail_names_the_part_and_the_way() -> None:
    outcome, detail = said(message(("a.zip", zipped({"b.zip": zipped({"c.pdf": PE})}))))
    assert outcome == "forbidden"
    assert detail == "part 1.2 a.zip > b.zip > c.pdf is a program or library of Windows or DOS"
    outcome, detail = said(message(("a.zip", flagged(zipped({"b.pdf": PDF}), 1)), ("x.exe", HELLO)))
    assert detail == "part 1.3 x.exe has a name ending in .exe; encrypted: part 1.2 a.zip > b.pdf"


def test_the_way_leads_through_mail() -> None:
    octets = message(("a.zip", zipped({"b.eml": message(("c.zip", zipped({"d.js": HELLO})))})))
    assert said(octets)[1] == "part 1.2 a.zip > b.eml > part 1.2 c.zip > d.js has a name ending in .js"


def test_no_name_makes_the_detail_long_or_unprintable() -> None:
    octets = message(*[("a.zip", zipped({f"\u202e\x1b[31m{'x' * 500}{number}.exe": HELLO})) for number in range(50)])
    finding, _ = asked(octets)
    assert finding.outcome == "forbidden" and len(finding.detail) < 1000


@pytest.mark.parametrize(
    ("octets", "options", "outcome"),
    [
        (PE, {"types": ()}, "clean"),
        (PE, {"types": ("elf",)}, "clean"),
        (PDF, {"types": ("pdf",)}, "forbidden"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, {"types": ("image/png",)}, "forbidden"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, {"types": (".png",)}, "forbidden"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, {"types": (".gif", "usual")}, "clean"),
        (b"nothing known", {"types": (".gif",)}, "clean"),
        (b"", {"types": (".gif",)}, "clean"),
        (PDF, {"names": ("*.dat",)}, "forbidden"),
        (zipped({"a": zipped({"b": PDF})}), {"archive_depth": 1}, "too_deep"),
        (zipped({"a": zipped({"b": PDF})}), {"archive_depth": 2}, "clean"),
        (zipped({"a": PDF, "b": PDF}), {"archive_files": 1}, "too_deep"),
        (zipped({"a": bytes(2 * MB)}), {"archive_ratio": 100}, "too_deep"),
        (zipped({"a": bytes(2 * MB)}), {"archive_ratio": 1200}, "clean"),
        (zipped({"a": PDF * 100}), {"archive_size": 1000}, "too_deep"),
        (zipped({"a.eml": message(("b", PDF))}), {"archive_depth": 1}, "too_deep"),
        (zipped({"a.eml": message(("b", PDF))}), {"archive_depth": 2}, "clean"),
        (zipped({"a.eml": message(*[("b", PDF)] * 10)}), {"archive_files": 12}, "too_deep"),
        (zipped({"a.eml": message(*[("b", PDF)] * 10)}), {"archive_files": 13}, "clean"),
        (zipped({"a.eml": message(("b", PDF), text="x" * 600)}), {"archive_size": 1000}, "too_deep"),
        (rar5(("c.pdf", False)), {"unreadable": "encrypted"}, "encrypted"),
        (seven("ppmd"), {"unreadable": "forbidden"}, "forbidden"),
    ],
)  # fmt: skip
def test_options(octets: bytes, options: Mapping[str, Any], outcome: str) -> None:
    assert one("x.dat", octets, **options) == outcome


def test_time_that_is_over_is_too_deep() -> None:
    finding, _ = asked(message(("a.zip", zipped({str(number): PDF for number in range(100)}))), step=0.1)
    assert (finding.outcome, finding.detail) == ("too_deep", "part 1.2 a.zip: no time to look at all of it")


@pytest.mark.parametrize("text", ["short", "x" * AT_ONCE])
def test_names_count_whatever_limit_is_met_before(text: str) -> None:
    outcome, detail = said(message(("b.gz", BOMB), ("a.exe", HELLO), text=text))
    assert outcome == "forbidden" and "too_deep: part 1.2 b.gz" in detail


@pytest.mark.parametrize("seven_zip", SEVEN)
def test_7z_of_every_kind_has_an_outcome(seven_zip: str) -> None:
    outcome = one("a.7z", seven(seven_zip))
    unread = dict.fromkeys(UNREAD, "clean")
    assert outcome == {"encrypted": "encrypted", "sealed": "encrypted", **unread}.get(seven_zip, "forbidden")


UNREAD = {"ppmd": seven("ppmd"), "bcj2": seven("bcj2"), "rar": rar5(("a.txt", False), ("evil.pdf", False))}


@pytest.mark.parametrize("octets", UNREAD.values(), ids=list(UNREAD))
def test_of_what_cannot_be_read_the_names_count_and_it_is_not_passed_over_in_silence(octets: bytes) -> None:
    assert said(message(("a.7z", octets)), names=("*evil*",))[0] == "forbidden"
    assert one("a.7z", octets, unreadable="too_deep") == "too_deep"
    told = "part 1.2 a.7z > a.txt cannot be read, part 1.2 a.7z > evil.pdf cannot be read"
    outcome, detail = said(message(("a.7z", octets)))
    assert outcome == "clean" and detail.startswith(told)
    assert "cannot be read" not in said(message(("a.7z", octets), ("b.exe", HELLO)))[1]


def test_zstd_with_its_library() -> None:
    zstd = needed("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    assert one("a.zst", zstd.compress(PE)) == "forbidden"
    assert one("a.zst", zstd.compress(bytes(20 * MB))) == "too_deep"
    assert one("a.zst", zstd.compress(PE)[:-3]) == "malformed"
    assert one("a.tzst", zstd.compress(tarred({"c.pdf": PE}))) == "forbidden"
    assert one("a.zst", b"\x28\xb5\x2f\xfd" + b"\xff" * 90) == "malformed"


def test_zstd_without_it_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachment_look, "_zstd", lambda: None)
    assert one("a.zst", b"\x28\xb5\x2f\xfd\x04\0") == "clean"
    assert one("a.zst", b"\x28\xb5\x2f\xfd\x04\0", unreadable="malformed") == "malformed"


def test_plain_mail_and_small_files_need_no_thread() -> None:
    for octets in (message(), message(("a.pdf", PDF)), message(("a.exe", PE)), b"\r\nhello\r\n"):
        assert asked(octets)[1].works == []


def test_archives_and_large_mail_are_looked_at_in_a_thread() -> None:
    assert asked(message(("a.zip", zipped({"b": PDF}))))[1].works == ["look"]
    assert asked(message(("a.pdf", PDF), text="x" * AT_ONCE))[1].works == ["_walk_whole", "look"]
    noise = bytes(range(256)) * 4 * 1024
    assert asked(message(("a.zip", zipped({"b": noise}, zipfile.ZIP_STORED))))[1].works == ["_walk_whole", "look"]


@pytest.mark.parametrize("types", [("exe",), ("usual", "zipp")])
def test_a_kind_of_file_that_there_is_not(types: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=types[-1]):
        Attachments({"types": types})


def test_the_usual_kinds_and_the_flaws_that_hide_exist() -> None:
    assert set(TYPES) <= set(WORDS)
    assert set(FLAWS) >= attachment_look.HIDING | attachment_look.UNSEEN
    assert not attachment_look.HIDING & attachment_look.UNSEEN


class Reader:
    """Says of macros what it is told."""

    def __init__(self, says: tuple[str, ...] | Exception) -> None:
        self.says = says
        self.asked: list[tuple[int, float]] = []

    def read(self, octets: bytes, seconds: float) -> tuple[str, ...]:
        self.asked.append((len(octets), seconds))
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


DOCM = zipped(WORD | {"word/vbaProject.bin": OLE + wide("_VBA_PROJECT"), "word/vbaData.xml": b"<x/>"})


@pytest.mark.parametrize("octets", [DOCM, OLE + wide("_VBA_PROJECT"), zipped({"a.docm": DOCM})])
@pytest.mark.parametrize(
    ("says", "outcome", "told"),
    [
        ((), "clean", ""),
        (("AutoOpen", "Shell\x1b"), "macro", ": AutoOpen, Shell?"),
        (Unavailable("macros were not read in time"), "macro", ": macros were not read in time"),
    ],
)
def test_macros_may_be_read(octets: bytes, says: Any, outcome: str, told: str) -> None:
    reader = Reader(says)
    finding, threads = asked(message(("a.doc", octets)), {"macros": "oletools"}, reader=reader)
    assert finding.outcome == outcome and finding.detail.endswith(told)
    assert reader.asked == [(len(DOCM if octets.startswith(b"PK") else octets), 4.0)]
    assert threads.works == ["look"]


def test_of_many_documents_some_are_read() -> None:
    reader = Reader(())
    finding, _ = asked(message(*[("a.docm", DOCM)] * 5), {"macros": "oletools"}, reader=reader)
    assert finding.outcome == "macro" and len(reader.asked) == 3


def test_a_document_without_macros_is_not_read() -> None:
    reader = Reader(())
    assert asked(message(("a.docx", zipped(WORD))), {"macros": "oletools"}, reader=reader)[0].outcome == "clean"
    assert not reader.asked


def test_without_the_library_it_cannot_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments, "find_spec", lambda name: None)
    Attachments({"macros": "found"})
    with pytest.raises(ValueError, match="pip install"):
        Attachments({"macros": "oletools"})


def test_options_can_be_written_and_read() -> None:
    for option in Attachments.options:
        read = kind(option.kind)
        assert read.read(read.write(option.default)) == option.default


BOMBS = {
    "zips in zips": zips_in_zips(),
    "gzip": without_end(gzip.compress(bytes(16 * MB)), 10 * 2**30, 16 * MB),
    "gzip in gzip": gzip.compress(gzip.compress(gzip.compress(bytes(16 * MB)))),
}
NESTED = b"".join(b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (at, at) for at in range(40))
BOMBS["multiparts in mail"] = zipped({f"{number}.eml": NESTED + b"\r\n" * 30_000 for number in range(50)})
BOMBS["parts in mail"] = zipped({f"{number}.eml": NESTED[:50] + b"--0\r\n\r\nx\r\n" * 900 for number in range(50)})
BOMBS["mail in mail"] = zipped({f"{number}.eml": message(("x.gz", BOMBS["gzip in gzip"])) for number in range(9)})


@pytest.mark.parametrize("octets", BOMBS.values(), ids=list(BOMBS))
def test_bombs_are_never_clean_and_cost_little(octets: bytes) -> None:
    letter = message(("a.zip", octets))
    before = time.process_time()
    outcome, _ = said(letter)
    assert time.process_time() - before < 2.0
    assert outcome == "too_deep"


def test_nothing_is_written_to_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **_: Any) -> Any:
        raise AssertionError(arguments)

    octets = message(("a.zip", zipped({"b.zip": zipped({"c.pdf": PE})})))
    monkeypatch.setattr(io, "open", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    assert said(octets)[0] == "forbidden"
