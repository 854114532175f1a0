"""What strangers write, through a whole gateway: in the greeting, the envelope, the content and their names in DNS. It
is no command of a shell, no part of a query, no line of the log and no end of a message; it is text."""

from __future__ import annotations

import base64
import contextlib
import email
import email.policy
import io
import itertools
import json
import re
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile_primary import HostilePrimary
from name_servers import PlayedServer
from programs import (
    DOMAIN,
    Answer,
    Child,
    Gateway,
    RecordingPrimary,
    Stage,
    Wire,
    domain,
    free_port,
    letter,
    need,
    post,
    stage,
    until,
)
from requiring import impossible

STORED, RAW = "stored.example", "raw.example"
# Where hostile names in DNS belong to, and an address without a name.
NAMED, NAMELESS = "198.51.100.7", "198.51.100.99"
PTR = [
    r"evil\027[2J\013\010id\032<script>alert\(1\)</script>.a.test",
    r"x'||\(select\0321\)||'\;drop\032table\032entry\;--\%s\%n.a.test",
    r"\226\128\168\000`touch\032pwned`.a.test",
    "y" * 63 + "." + "y" * 63 + "." + "y" * 63 + "." + "y" * 61,
]
# Octets of the longest line that a log may have: 64 KB of an event, each of which may have to be quoted once more.
LINE_LIMIT = 130 * 1024
# All fields of a notice of ours.
NOTICE = [
    "Date", "From", "To", "Subject", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type",
    "Content-Transfer-Encoding",
]  # fmt: skip
ZONE = {".".join(reversed(NAMED.split("."))) + ".in-addr.arpa": {"PTR": PTR}}


class House:
    """A gateway with everything on that keeps or repeats what strangers say, and what is around it."""

    def __init__(self, play: Stage, names: PlayedServer, raw: HostilePrimary) -> None:
        self.primary: RecordingPrimary = play.recording()
        self.raw = raw
        self.port = free_port()
        self.gateway: Gateway = play.gateway(
            f"[dns]\nservers = 127.0.0.1:{names.port}\n"
            + domain(self.primary.port)
            + domain(free_port(), STORED)
            + domain(raw.port, RAW, bounce="always", handover="spool")
            + domain(self.primary.port, "sender.example")
            + "[archive all]\nrule = incoming\npath = archive\n"
            "[check rdns]\nuse = rdns\n[check helo]\nuse = helo\n[check grey]\nuse = greylist\nskip_for = 127.0.0.0/8\n"
            "[check pills]\nuse = headers\nheader = Subject\nvalue = pills\nweight.match = 30\n"
            "[check files]\nuse = attachments\n[level high]\nthreshold = 30\naction = quarantine\n"
            "[smtp]\nmax_junk_commands = 1000\nmax_bad_commands = 100\n",
            # One process, all of which is seen by who looks at it.
            gateway_keys="workers = 0\n",
            extra_listen=f"haproxy:tcp:{self.port}:interface=127.0.0.1",
        )

    def wire(self, peer: str) -> Wire:
        wire = Wire(self.port)
        wire.send(f"PROXY TCP4 {peer} 192.0.2.25 4000 25\r\n".encode())
        return wire

    def lines(self) -> list[dict[str, Any]]:
        """Of the log; each is one JSON object in printable letters, and not without end."""
        until("its last line is whole", lambda: self.gateway.output.read_bytes().endswith(b"\n"))
        lines = self.gateway.output.read_text("utf-8").split("\n")[:-1]
        assert [line for line in lines if not line.isprintable()] == []
        assert max(map(len, lines)) <= LINE_LIMIT
        events = [json.loads(line) for line in lines]
        assert all(isinstance(event, dict) for event in events)
        return events

    def story(self, answer: Answer) -> str:
        """As an operator's terminal gets it."""
        told = until("its story", lambda: self.gateway.command("explain", answer.id, status=None))
        for line in told.split("\n"):
            assert line.isprintable(), line
        return told


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    names, raw = PlayedServer(ZONE), HostilePrimary()
    with contextlib.closing(names), contextlib.closing(raw), stage() as play:
        made = House(play, names, raw)
        yield made
        assert made.gateway.faults() == []


# --- text and nothing else --------------------------------------------------------------------------------------------

HELLOS = [
    b"\x1b[2J\x1b]0;owned\x07",
    b"%s%n%x",
    b"'||(select 1)||'",
    b'x";drop table entry;--',
    "a\u2028b\u2029c\u202e".encode(),
    b'"},{"event":"delivered","x":"',
    b"\x00\xff\xfe",
    b"$(touch pwned)`touch pwned`;|touch pwned",
]
SUBJECTS = [
    b"\x1b[2J\x1b[31m pills",
    b"pills \x07\x08\x7f\x9b",
    "pills \u2028\u2029\u202e\x85".encode(),
    b"pills =?utf-8?b?G1sySgp7fQ==?= =?utf-8?q?=0d=0aX-Spam-Level:_NONE?=",
    b"pills '||(select 1)||' %s%n \"}\\",
    b"pills " + b"x" * 90_000,
]
SENDERS = [
    "\"x'||(select 1)||'\"@a.test",
    '"%\'; drop table entry;--"@a.test',
    "100%@a.test",
    "_@a.test",
    '"\\"},{\\"event\\":\\"delivered\\""@a.test',
    "$x|`id`&@a.test",
]


def test_hostile_greetings_are_one_line_each_wherever_they_are_told(house: House) -> None:
    """Those of strangers with hostile names, put off or refused."""
    refused = []
    for hello in HELLOS:
        with house.wire(NAMED) as wire:
            assert wire.reply().code == 220
            answer = wire.ask(b"EHLO " + hello)
            if answer.code == 250:
                answer = wire.envelope("a@a.test", f"user@{DOMAIN}")[-1]
            assert answer.code >= 400, answer
            refused.append(answer)
    stories = [house.story(answer) for answer in refused]
    told = [event for event in house.lines() if event.get("id") in {answer.id for answer in refused}]
    # One event for each refusal, none of them made by what was said.
    assert sorted(event["id"] for event in told if event["event"] == "refused") == sorted(a.id for a in refused)
    assert {event["ip"] for event in told} == {NAMED}
    assert not any(event["event"] == "delivered" for event in told)
    # Whom the greylist put off was looked at by the others before, under his own name.
    assert any("rdns" in story and "unconfirmed" in story for story in stories)


def test_hostile_subjects_and_senders_are_kept_told_and_found_as_text(house: House) -> None:
    taken: dict[str, Answer] = {}
    for sender in SENDERS:
        for number, subject in enumerate(SUBJECTS):
            with house.wire("127.0.0.9") as wire:
                wire.hello()
                assert [each.code for each in wire.envelope(sender, f"user@{STORED}")] == [250, 250], sender
                answer = wire.content(b"Subject: " + subject + b"\r\nFrom: <a@a.test>\r\n\r\nHello.\r\n")
            assert answer.code == 250, answer
            if not number:
                taken[sender] = answer
    for sender, answer in taken.items():
        rows = house.gateway.listed("quarantine", "list", "--sender", sender)
        assert {row["sender"] for row in rows} == {sender} and len(rows) == len(SUBJECTS)
        assert answer.id in {row["id"] for row in rows}
    house.story(taken[SENDERS[1]])
    for row in rows:
        shown = house.gateway.command("quarantine", "show", row["id"])
        assert all(line.isprintable() for line in shown.replace("\t", " ").split("\n"))
    everything = house.gateway.command("quarantine", "list")
    assert all(line.isprintable() for line in everything.split("\n"))
    assert len(house.gateway.listed("quarantine", "list", "--domain", STORED)) == len(SENDERS) * len(SUBJECTS)
    house.lines()


SAID = [
    b"MAIL FROM:<a@a.test> \x1b[2J=%s%n",
    b"MAIL FROM:<a\x1b[31m@a.test>",
    "MAIL FROM:<a\u2028b@a.test>".encode(),
    b"MAIL FROM:<a@a.test\xff\xfe\x00>",
    b"MAIL FROM:<%s%n%x@a.test> SIZE=99999999999999999999",
    b"MAIL FROM:<" + b"x" * 2**20 + b"@a.test>",
    b"EHLO " + b"\x1bx" * 2**19,
    b"\x1b]0;owned\x07 " + b"%n" * 400,
]


def test_whatever_is_said_in_the_envelope_is_refused_and_told_in_lines(house: House) -> None:
    before = len(house.lines())
    for said in SAID:
        with house.wire("127.0.0.9") as wire:
            wire.hello()
            try:
                codes = {wire.ask(said).code, wire.ask(f"RCPT TO:<user@{DOMAIN}>").code}
            except (EOFError, ConnectionError):
                continue
            assert all(code >= 500 for code in codes), said
    assert len(house.lines()) <= before + 2 * len(SAID)


NAMES = [
    b"\x1b[2J\x1b]0;owned\x07.exe",
    "\u2028\u202egpj.exe".encode(),
    b"a\r\n\tX-Spam-Level: NONE.exe",
    b"%s%n%x.exe",
    b'"},{"event":"delivered".exe',
    b"=?utf-8?q?=0D=0AX-Spam-Level:_NONE=1b=5b2J=00.exe?=",
    b"x" * 10_000 + b".exe",
]


def test_hostile_names_of_files_are_text_wherever_they_are_told(house: House) -> None:
    """Each forbids its file, so that it stands in what was found."""
    taken = []
    for number, name in enumerate(NAMES):
        attached = b'--b\r\nContent-Disposition: attachment; filename="' + name + b'"\r\n\r\nx\r\n--b--\r\n'
        head = b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n'
        taken.append(post(house.gateway.port, letter(f"a file {number}.", attached, head)))
        mail = house.primary.one(f"Subject: a file {number}.".encode())
        assert mail.field("X-Spam-Level") == ["NONE"]
        assert mail.field("X-Spam-Checks")[0].endswith(" files=forbidden(0)"), name
    assert "reads otherwise than it is" in house.story(taken[1])
    house.story(taken[2])
    house.lines()


@pytest.mark.parametrize(
    "asked",
    [
        ("quarantine", "list", "--sender", "%@a.test"),
        ("quarantine", "list", "--sender", "x' OR '1'='1"),
        ("quarantine", "list", "--cause", "x' OR '1'='1"),
        ("quarantine", "list", "--domain", "%"),
        ("quarantine", "list", "' OR 1=1 --"),
        ("spool", "list", "--recipient", "*@%"),
        ("spool", "list", "--domain", "' UNION SELECT 1 --"),
        ("recipients", "list", "%' OR '1'='1"),
        ("greylist", "list", "' OR 1=1 --"),
        ("blocks", "list", "--matching", "' OR 1=1 --"),
    ],
    ids=" ".join,
)
def test_what_is_asked_for_is_text_as_well(house: House, asked: tuple[str, ...]) -> None:
    assert house.gateway.command(*asked, "--json", status=None).strip() in ("[]", "")


def test_every_table_is_as_it_was(house: House) -> None:
    """After all of that, and beside it."""
    files = sorted(house.gateway.data.glob("**/*.sqlite"))
    assert len(files) >= 3
    for path in files:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    assert house.gateway.listed("greylist", "list", "a@a.test")


# --- the end of a message, on its way out -----------------------------------------------------------------------------

ENDS = [b"\n.\n", b"\n.\r", b"\r.\r", b"\r.\n", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r.\r\n"]
SMUGGLED = b"MAIL FROM:<evil@a.test>\r\nRCPT TO:<user@raw.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"


def lenient(octets: bytes) -> list[bytes]:
    """The ends that somebody might see who is not strict, or drops NULs."""
    return [end for end in ENDS for seen in (octets, octets.replace(b"\0", b"")) if end in seen]


@pytest.mark.parametrize("between", [b"", b"\0"], ids=["", "NUL"])
@pytest.mark.parametrize("end", ENDS, ids=repr)
@pytest.mark.parametrize("place", ["in the header", "in the body"])
def test_no_odd_end_leaves_us(house: House, end: bytes, between: bytes, place: str) -> None:
    odd = end[:1] + between + end[1:]
    text = b"Subject: odd" + odd + SMUGGLED if place == "in the header" else b"Subject: odd\r\n\r\nodd" + odd + SMUGGLED
    with Wire(house.gateway.port) as wire:
        wire.hello()
        wire.envelope("a@stranger.example", f"user@{RAW}", f"user@{DOMAIN}")
        assert wire.ask("DATA").code == 354
        wire.send(text)
        refused = wire.reply()
        assert refused.code == 554, refused
        # Nothing inside of it was a command.
        assert wire.ask("NOOP").code == 250
    assert not [content for content in house.raw.offered if b"smuggled" in content]
    assert not [mail for mail in house.primary.received() if b"smuggled" in mail.content]


def test_what_leaves_us_has_one_end_and_what_a_primary_says_makes_no_other(house: House) -> None:
    """Dots everywhere, by the spool; then a refusal full of ends, which the notice tells."""
    body = b"".join(dots + text + b"\r\n" for dots in (b".", b"..", b"", b" .") for text in (b"", b"x", b" "))
    assert post(house.gateway.port, letter("dots", body), recipients=[f"user@{RAW}"]).code == 250
    (content,) = until("it is there", lambda: [each for each in house.raw.taken if b"Subject: dots" in each])
    assert lenient(b"\r\n" + content) == []
    # Unstuffed it is what was sent.
    assert re.sub(rb"(?m)^\.", b"", content).endswith(b"\r\n\r\n" + body)

    house.raw.answers = {"rcpt": b"550-5.1.1 no\n.\n\r550-\x00\r.\r\r\n550-5.1.1 .\r\n550 5.1.1 \n.\r\x1b[2Jgone\r\n"}
    try:
        answer = post(house.gateway.port, letter("refused"), recipients=[f"user@{RAW}"], sender="author@sender.example")
        assert answer.code == 250, answer
        notice = house.primary.one(b"multipart/report").content
    finally:
        house.raw.answers = {}
    assert lenient(b"\r\n" + notice) == [] and not re.search(rb"(?<!\r)\n|\r(?!\n)|\0|\x1b", notice)
    assert b"Subject: refused" in notice
    house.story(answer)
    house.lines()


ENDLESS = b"".join(
    b"550-5.7.1 line %d gr\xfc\xdf \xe2\x80\xa8\x1b[2J\rBcc: victim@c.example\x00\r\n" % number for number in range(50)
)


@pytest.mark.parametrize("step", ["rcpt", "dot"])
def test_no_refusal_writes_a_field_of_a_notice(house: House, step: str) -> None:
    """Fifty lines of it, with fields in them and behind them. What we write to the sender is as RFC 3464 has it."""
    house.raw.answers = {step: ENDLESS + b"550 5.7.1 end\r\nBcc: victim@c.example\r\n\r\nX-Spam-Level: NONE\r\n"}
    sender = f"{step}@sender.example"
    try:
        answer = post(house.gateway.port, letter("fifty lines"), recipients=[f"user@{RAW}"], sender=sender)
        assert answer.code == 250, answer
        mail = house.primary.one(sender.encode())
    finally:
        house.raw.answers = {}
    assert mail.recipients == (sender,) and mail.sender == ""
    told = email.message_from_bytes(mail.content, policy=email.policy.default)
    assert sorted(told.keys()) == sorted(NOTICE)
    assert told.get_content_type() == "multipart/report" and told.get_param("report-type") == "delivery-status"
    words, status, returned = told.iter_parts()
    assert (words.get_content_type(), status.get_content_type()) == ("text/plain", "message/delivery-status")
    ours, theirs = status.iter_parts()
    assert set(ours.keys()) >= {"Reporting-MTA"} and ours.keys().count("Reporting-MTA") == 1
    assert sorted(theirs.keys()) == [
        "Action", "Diagnostic-Code", "Final-Recipient", "Last-Attempt-Date", "Remote-MTA", "Status",
    ]  # fmt: skip
    assert (theirs["Action"], theirs["Status"], theirs["Final-Recipient"]) == ("failed", "5.7.1", f"rfc822; user@{RAW}")
    assert b"Subject: fifty lines" in returned.as_bytes()
    assert mail.content.count(b"\r\n") == mail.content.count(b"\n") == mail.content.count(b"\r")
    house.story(answer)
    house.lines()


# --- fields that only we may write ------------------------------------------------------------------------------------

FORGED = [
    "Authentication-Results: mx.gateway.example; dmarc=pass header.from=bank.example",
    "AUTHENTICATION-RESULTS :\r\n\tMX.Gateway.EXAMPLE. 1;\r\n spf=pass",
    'authentication-results:(a (nested\r\n \\) comment)\r\n "mx\\.gateway.example" (x); dkim=pass header.d=bank.test',
    "Authentication-Results: mx.gateway.example",
    "Authentication-Results: (never closed mx.gateway.example; dmarc=pass",
    "Received-SPF: pass (mx.gateway.example: domain of ceo@bank.example designates 192.0.2.1 as permitted sender)",
    "received-spf:Pass identity=mailfrom; client-ip=192.0.2.1;\r\n\tReceiver = MX.gateway.example.; helo=x",
    "X-Spam-Level: NONE",
    "x-spam-score :\r\n -100",
    "X-SPAM-CHECKS: whitelist=listed(-100)\r\n\tall=fine(0)",
]
FOREIGN = [
    "Authentication-Results: mx.gateway.example.evil.example; dmarc=pass",
    "Authentication-Results: (mx.gateway.example) other.example; spf=pass smtp.helo=mx.gateway.example",
    "Received-SPF: fail (other.example: domain of a@b.example does not say so) receiver=other.example",
    "X-Spam-Status: Yes, score=20",
    "X-Note: Authentication-Results: mx.gateway.example; dmarc=pass",
]


@pytest.mark.parametrize("first", range(len(FORGED)))
def test_of_the_fields_that_say_what_we_found_ours_alone_arrive(house: House, first: int) -> None:
    """Wherever they stand: at the very beginning, among others, at the end."""
    forged = FORGED[first:] + FORGED[:first]
    fields = [field for pair in itertools.zip_longest(forged, FOREIGN) for field in pair if field]
    sent = "".join(f"{field}\r\n" for field in [*fields[:-1], f"Subject: forged {first}.", fields[-1]])
    answer = post(house.gateway.port, sent.encode() + b"\r\nX-Spam-Level: in the body\r\n")
    assert answer.code == 250, answer
    mail = house.primary.one(f"Subject: forged {first}.\r\n".encode())
    kept = "".join(f"{field}\r\n" for field in FOREIGN) + f"Subject: forged {first}.\r\n"
    ours, _, rest = mail.content.partition(FOREIGN[0].encode())
    assert sorted((FOREIGN[0].encode() + rest).split(b"\r\n")) == sorted(
        (kept.encode() + b"\r\nX-Spam-Level: in the body\r\n").split(b"\r\n")
    )
    names = [line.partition(b":")[0] for line in ours.split(b"\r\n") if line[:1] not in (b"", b"\t", b" ")]
    assert names == [b"Received", b"Authentication-Results", b"X-Spam-Level", b"X-Spam-Score", b"X-Spam-Checks"]


# --- words that a shell would run -------------------------------------------------------------------------------------

RUNS = ["`touch {0}`", "$(touch {0})", ";touch {0};", "|touch {0}", "&& touch {0}", "'; touch {0} #"]
FILES = [
    *RUNS,
    "-rf",
    "--checkpoint-action=exec=touch {0}",
    "../../../../{0}",
    ":include:{0}",
    "|{0}",
    "> {0}",
    "a\\nb",
]
LOCALS = [
    '"|touch {0}"', '"`touch {0}`"', '"$(touch {0})"', '":include:{0}"', '"; touch {0} ;"', "`{1}`", "|{1}", "$IFS",
    "-oQ/tmp", "-froot", "/{1}", "&{1}", '":fail:"',
]  # fmt: skip


class Tracer(Child):
    """strace on a running process and all it will start: each program that is run is a line."""

    def __init__(self, folder: Path, victim: Child) -> None:
        super().__init__("strace", folder)
        calls = "execve,execveat,fork,vfork"
        self.spawn([need("strace"), "-f", "-e", f"trace={calls}", "-p", str(victim.pid)])
        until("strace is attached", lambda: "attached" in self.errors.read_text() or not self.running)
        if not self.running:
            impossible(f"processes cannot be traced here: {self.said()}")

    @property
    def calls(self) -> list[str]:
        return re.findall(r"(?m)^.*(?:exec|fork).*\(.*$", self.errors.read_text())


@pytest.mark.root
def test_a_program_that_is_started_would_be_seen(play: Stage) -> None:
    shell = play.partner("shell", lambda folder: Child("shell", folder))
    shell.spawn(["sh", "-c", "while ! test -e go; do :; done; /bin/true; :"])
    tracer = play.partner("tracer", lambda folder: Tracer(folder, shell))
    (shell.folder / "go").touch()
    until("it is seen", lambda: any("/bin/true" in call for call in tracer.calls))


@pytest.mark.root
def test_words_of_a_shell_are_delivered_or_refused_and_start_nothing(house: House, play: Stage) -> None:
    touched = house.gateway.folder / "touched"
    name = touched.name

    def said(text: str) -> str:
        return text.format(touched, name)

    parts = b"".join(
        f'--=b\r\nContent-Type: application/octet-stream; name="{said(file)}"\r\n'
        f'Content-Disposition: attachment; filename="{said(file)}"\r\n\r\nx\r\n'.encode()
        for file in FILES
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for file in (*map(said, FILES), "../../touched", "/../touched.exe", "x" * 300 + ".sh"):
            archive.writestr(file, b"MZ" + bytes(200))
    parts += (
        b'--=b\r\nContent-Type: application/zip; name="x.zip"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
        + base64.encodebytes(packed.getvalue()).replace(b"\n", b"\r\n")
    )
    headers = b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="=b"\r\n'
    content = letter(said(RUNS[0]), parts + b"--=b--\r\n", headers)
    tracer = play.partner("tracer", lambda folder: Tracer(folder, house.gateway))
    before, accepted = house.primary.count(), []
    for number, local in enumerate(map(said, LOCALS)):
        with Wire(house.gateway.port) as wire:
            wire.reply()
            if wire.ask(f"EHLO {said(RUNS[number % len(RUNS)])}").code != 250:
                assert wire.ask("EHLO client.stranger.example").code == 250
            sender = wire.ask(f"MAIL FROM:<{local}@stranger.example>").code
            if sender != 250:
                assert sender >= 500 and wire.ask("MAIL FROM:<>").code == 250
            codes = [wire.ask(f"RCPT TO:<{local}@{where}>").code for where in (DOMAIN, STORED)]
            assert set(codes) <= {250, 550, 553, 501}, (local, codes)
            if 250 in codes:
                assert wire.content(content).code == 250
                accepted.append(f"{local}@{DOMAIN}")
    until("all of it has been delivered", lambda: house.primary.count() == before + len(accepted))
    copies = house.gateway.folder / "archive"
    until(
        "a copy of each",
        lambda: sum(content[-500:] in path.read_bytes() for path in copies.glob("*/*.eml")) == len(accepted),
    )
    mails = house.primary.received()[-len(accepted) :]
    assert {recipient for mail in mails for recipient in mail.recipients} == set(accepted)
    assert len(accepted) >= 8
    assert all(mail.content.endswith(content) for mail in mails)
    # What is packed was looked into.
    assert all("files=forbidden(0)" in mail.field("X-Spam-Checks")[0] for mail in mails)
    # Lists of what is kept, and the parts that name files.
    for row in house.gateway.listed("spool", "list", "--domain", STORED, "--state", "active")[:3]:
        assert house.gateway.command("spool", "show", row["id"])
    assert tracer.calls == []
    tracer.end()
    assert not touched.exists()
    strange = [path for path in house.gateway.folder.rglob("*") if re.search(r"touch|[`$;|&>]|include|pwn", path.name)]
    assert strange == []
