"""Any message at its final dot: its fields, the checks that read it, what we write above it, and the notice about it.

The first two octets say who brings it, and what is done with its header section; the rest is the message, each LF a
line end. What SMTP never takes is left out: CR, LF and NUL by themselves.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from typing import Any

import complaints
import dkim
from cryptography.hazmat.primitives.asymmetric import rsa
from fakes.checks import FakeClock, FakeContents, FakeOffload
from fakes.dkim_signing import ed25519_record, rsa_record
from fakes.resolver import FakeResolver

from inboundmx.checks.api import Case, Tools
from inboundmx.checks.registry import KINDS
from inboundmx.checks.runner import Runner
from inboundmx.model.address import Address
from inboundmx.model.custody import SpoolEntry, SpoolRecipient
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import CheckResult, Stage
from inboundmx.model.message import SMALL_BODY, Body, Message
from inboundmx.model.session import Session
from inboundmx.model.settings import CheckSettings, GatewaySettings, Settings
from inboundmx.model.verdict import Action, Level, Verdict
from inboundmx.policy.looping import goes_in_circles
from inboundmx.policy.notices import compose
from inboundmx.policy.scoring import score
from inboundmx.policy.stamping import stamp
from inboundmx.prompt import promptly

MAX_LENGTH = 4096

OURS = "mx.gateway.example"
SESSION = Session("session", "203.0.113.7", 4000, "192.0.2.1", 1_800_000_000.0, "client.example", True, "TLSv1.3 X")
SENDERS = Address("ann", "a.example"), None, Address("\u00e9", "a.example")
ANN = Address("ann", "b.example")
ACTIONS = (Action("tag", "[SPAM]"), Action("tag", "\u00e9" * 30), Action("header", "X-Marked: yes"))
STAMPS = ["received", "authentication-results", "x-spam-level", "x-spam-score", "x-spam-checks"]
# Fixed, so that what is signed in the corpus stays so.
PRIMES = (
    0xDA59F74872B02FD95E6AE043AADDD0B76624809A8E6975F6B0A816063877B2572F0E4506189069007559983AAF03F24A0A568EC6F1913A2ABD9F3F260390ABA9,
    0xC7971C2D862CD66302013E5E41A29A200FB9AEDBFCC2DDD2C191B510E7E2DEF755E0D61524FE14DFA4FF445CB8D748534EB696CD3245651952E202B8CE1856B9,
)


@cache
def key() -> rsa.RSAPrivateKey:
    p, q = PRIMES
    d = rsa.rsa_recover_private_exponent(65537, p, q)
    numbers = rsa.RSAPublicNumbers(65537, p * q)
    parts = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    return rsa.RSAPrivateNumbers(p, q, d, *parts, numbers).private_key()


@cache
def zone() -> dict[str, Any]:
    return {
        "s._domainkey.a.example": {"TXT": [rsa_record(key())]},
        "e._domainkey.a.example": {"TXT": [ed25519_record()]},
        "t._domainkey.a.example": {"TXT": [rsa_record(key(), "t=y:s; ")]},
        "r._domainkey.a.example": {"TXT": ["v=DKIM1; p="]},
        "bad._domainkey.a.example": {"TXT": ["v=DKIM1; k=rsa; p=AAAA"]},
    }


CHECKS = (
    CheckSettings("dkim", "dkim", weights={}, options={"minimum_key": 1024}),
    CheckSettings("files", "attachments", weights={}),
    CheckSettings("pills", "headers", weights={"match": 5.0}, options={"header": "Subject", "value": "pills"}),
    CheckSettings(
        "pattern", "headers", weights={"match": 5.0},
        options={"header": "X-Mailer", "pattern": r"^(?:[a-z]+[0-9]*)++ bulk$"},
    ),
)  # fmt: skip
SETTINGS = Settings(gateway=GatewaySettings(hostname=OURS, postmaster=f"postmaster@{OURS}"))


class Books:
    def __init__(self) -> None:
        self.faults: list[Any] = []

    def record(self, event: str, id: str, fields: Any, *, level: str = "info") -> None:
        self.faults.append((event, dict(fields)))


@cache
def runner() -> tuple[Runner, Books]:
    books, clock = Books(), FakeClock()
    # Not so late that every signature with an end has expired.
    clock.now = lambda: 1_800_000_000.0  # type: ignore[method-assign]
    nothing: Any = None
    tools = Tools(
        SETTINGS, clock, FakeResolver(zone()), nothing, nothing, FakeOffload(), FakeContents(), nothing  # type: ignore[arg-type]
    )  # fmt: skip
    return Runner([(each, KINDS[each.kind](each.options, tools)) for each in CHECKS], clock, books), books


def one(octets: bytes) -> None:
    """Receives one message. Raises where something about it must not be."""
    complaints.listen()
    how = octets[:2].ljust(2, b"\0")
    content = re.sub(rb"[\r\0]", b"", octets[2:]).replace(b"\n", b"\r\n")
    if content and not content.endswith(b"\r\n"):
        content += b"\r\n"
    message = Message("1mcc5rm00000001", Body(len(content), content, None, hashlib.sha256(content).digest()))
    _fields(message)
    goes_in_circles(message, SETTINGS.gateway, 50)
    sender = SENDERS[how[0] % len(SENDERS)]
    envelope = Envelope(sender, (ANN,), len(content), True, how[0] >= 128)
    results = _checked(message, envelope)
    total = score(results, {each.name: each for each in CHECKS})
    actions = tuple(action for bit, action in enumerate(ACTIONS) if how[1] >> bit & 1)
    _stamped(message, envelope, Verdict(Level.LOW, actions, total), results)
    if sender is not None:
        _notice(content, sender, how[1])
    complaints.none()


def _fields(message: Message) -> None:
    """They are what stands line by line up to the first line that is no field, and nothing is left out between."""
    expected: list[tuple[str, bytes]] = []
    lines = message.body.head.split(b"\r\n")
    for line in lines[:-1]:
        named = re.match(rb"([!-9;-~]+)[ \t]*:", line)
        if line[:1] in (b" ", b"\t") and expected:
            expected[-1] = expected[-1][0], expected[-1][1] + b"\r\n" + line
        elif line and named:
            expected.append((named[1].decode().lower(), line[named.end() :]))
        else:
            break
    assert [(field.name, field.value) for field in message.fields] == expected
    at = 0
    for field in message.fields:
        assert field.start == at, "something between two fields"
        at = field.end
        field.text()


def _checked(message: Message, envelope: Envelope) -> tuple[CheckResult, ...]:
    run, books = runner()
    books.faults.clear()
    came: list[Any] = []
    promptly(run.run(Stage.MESSAGE, Case(SESSION, envelope, None, message)), came.append, came.append)
    assert came and isinstance(came[0], tuple), came
    assert not books.faults, books.faults
    results: tuple[CheckResult, ...] = came[0]
    assert [result.check for result in results] == [each.name for each in CHECKS]
    for result in results:
        assert result.finding.outcome not in ("error", "timeout"), result
        assert result.finding.detail.isprintable()
    if results[0].finding.outcome == "pass":
        _second_opinion(message.body.head, results[0])
    return results


def _second_opinion(content: bytes, result: CheckResult) -> None:
    """What we say was signed and not altered, another implementation says as well."""

    def look_up(name: bytes, timeout: int = 5) -> bytes:
        rows = zone().get(name.decode().rstrip("."), {}).get("TXT", [""])
        return bytes(rows[0], "ascii")

    verifier = dkim.DKIM(content, minkey=1024)
    for number in range(min(10, content.lower().count(b"dkim-signature"))):
        try:
            if verifier.verify(number, dnsfunc=look_up):
                return
        except (dkim.DKIMException, ValueError, KeyError, IndexError):
            continue
    raise AssertionError(f"nobody else says so: {result.finding}")


def _stamped(message: Message, envelope: Envelope, verdict: Verdict, results: tuple[CheckResult, ...]) -> None:
    content = stamp(message, SESSION, envelope, verdict, results, SETTINGS, 1_800_000_000.0, ANN)
    was = message.body.head
    now = content.prefix + was[content.skip :]
    end = message.header_end if message.fields else 0
    assert now.endswith(was[end:]), "the body is altered"
    stamped = Message("x", Body(len(now), now, None, b""))
    names = [field.name for field in stamped.fields]
    assert names[:5] == STAMPS, names
    ours = now[: stamped.fields[4].end]
    assert ours.isascii() and all(len(line) <= 998 for line in ours.split(b"\r\n"))
    section = now[stamped.fields[4].end : len(now) - len(was[end:])]
    left = _folded(section)
    for line in left:
        name, colon, value = line.partition(b":")
        if not colon:
            continue
        name = name.rstrip(b" \t").lower()
        assert name.decode("latin-1") not in STAMPS[2:], f"forged: {line!r}"
        if name == b"authentication-results" and not section.isspace():
            assert not re.match(rb"\s*mx\.gateway\.example\.?[ \t]*(?:;|\Z)", value, re.I), f"forged: {line!r}"
    # What is left stands in its order, and but for the Subject as it stood.
    before = iter(_folded(was[:end]))
    kinds = [action.verb for action in verdict.actions]
    for line in left:
        name = line.partition(b":")[0].rstrip(b" \t").lower()
        if ("tag" in kinds and name == b"subject") or ("header" in kinds and name == b"x-marked") or not line:
            continue
        assert line in before, f"put in: {line!r}"


def _folded(section: bytes) -> list[bytes]:
    """Lines with those that continue them."""
    return re.sub(rb"\r\n(?=[ \t])", b"\0", section).split(b"\r\n") if section else []


def _notice(content: bytes, sender: Address, how: int) -> None:
    entry = SpoolEntry(
        "1d", "1d", "1d", 1_800_000_000.0, sender, (SpoolRecipient(ANN, last_reply="550 5.1.1 no"),), len(content),
        "b.example", ret="FULL" if how & 16 else "",
    )  # fmt: skip
    complete = bool(how & 32)
    notice = compose(
        "failed", entry, entry.recipients, SETTINGS.gateway, 1_800_000_000.0, "n0t1ce", content[:SMALL_BODY],
        complete=complete,
    )  # fmt: skip
    assert notice.endswith(b"\r\n")
    assert not re.search(rb"[\r\n]", notice.replace(b"\r\n", b"")), "a bare CR or LF"
    assert all(len(line) <= 998 for line in notice.split(b"\r\n")), "a long line"
    boundary = re.search(rb'boundary="(=_[^"]+)"', notice)
    assert boundary is not None
    assert notice.count(b"\r\n--" + boundary[1]) == 4, "not three parts"
