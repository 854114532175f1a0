"""What the checks themselves cost while every answer is in the cache: SPF, a DKIM signature, DMARC, lists, greylist;
and with these what is looked for in header fields and attachments.

In two ways. Without sockets: the real runner, checks, resolver cache and greylist file, in CPU time a message, beside a
plain loop by which figures of different machines compare. End to end: a gateway with these checks beside one without
and beside stock Postfix, in one run, each fed the same signed letters by a client that lists are asked about.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from benchmarks.figures import Figures, medians
from benchmarks.greylist import FromThread, WallClock
from benchmarks.load import content
from benchmarks.own_network import in_own_network
from benchmarks.peers import NotHere, Ours, Peer, Postfix
from benchmarks.promises import CHECKED, CONTENT
from benchmarks.scenarios import MANY, Effort, forward, turns
from benchmarks.services import (
    BLOCK,
    CLIENT,
    CONTENT_CHECKS,
    LISTS,
    NAME_CHECKS,
    STRANGER,
    Signer,
    authority,
    first_opinions,
    outcomes,
)
from inboundmx.app.inside import plan_of
from inboundmx.app.settings import load
from inboundmx.checks.api import Case, Tools
from inboundmx.checks.zones import Zones
from inboundmx.model.address import Address
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import CheckResult, Stage
from inboundmx.model.message import Body, Message
from inboundmx.model.session import Session
from inboundmx.net.chance import SystemChance
from inboundmx.net.resolver import NOWHERE, DnsResolver
from inboundmx.ports import Answer
from inboundmx.storage.state import SqliteStateStore

DOMAINS, STRANGERS = 10, 200
TURNS = 200_000
LETTER = content(4096)[:-3]
EXPECTED = {"spf": "pass", "dkim": "pass", "dmarc": "pass", "greylist": "known"} | {
    f"list{n}": "absent" for n in range(len(LISTS))
}
CONTENT_EXPECTED = EXPECTED | {"lottery": "absent", "attachments": "clean"}
EVERY_CHECK = "inboundmx, all own checks"
RECIPIENT = Address("user", "here.example")


def calibrated() -> float:
    """CPU seconds of 1000 turns of a loop that any Python has to go through."""
    started = time.thread_time()
    total = 0
    for number in range(TURNS):
        total = (total + number) & 0xFFFF
    return (time.thread_time() - started) / TURNS * 1000


class Silent:
    def noted(self, service: str, well: bool, detail: str) -> None:
        """Nobody asks."""


class Chain:
    """All stages of the checks in an INI, for STRANGERS of DOMAINS domains, every answer in the resolver's cache."""

    def __init__(self, folder: Path, more: str, expected: dict[str, str]) -> None:
        self._expected = expected
        config = folder / "inboundmx.ini"
        config.write_text(
            f"[gateway]\nhostname = mx.gateway.example\ndata = {folder}\n[domain here.example]\nprimary = 127.0.0.1:9\n"
            "recipients = any\n"
            + first_opinions(9)
            + more
        )
        settings = load(str(config))
        self.clock, self.from_thread = WallClock(), FromThread()
        # What the store of the greylist had to complain of.
        self.reports: list[str] = []
        self.state = SqliteStateStore(
            str(folder),
            self.clock,
            self.from_thread,
            lambda event, fields: self.reports.append(f"{event} {dict(fields)}"),
        )
        resolver = DnsResolver(Clock(), self.clock, SystemChance(), [], 5.0)
        nothing: Any = None
        silent = Silent()
        zones = Zones(resolver, self.clock, silent)
        tools = Tools(settings, self.clock, resolver, self.state, nothing, nothing, nothing, silent, zones=zones)
        self.runner = plan_of(tools, nothing).runner
        signers = [Signer(f"d{number}.example") for number in range(DOMAINS)]
        self.cases = [self._stranger(number, signers[number % DOMAINS]) for number in range(STRANGERS)]
        for key, rows in self._zone(signers).items():
            answer = Answer(tuple(rows)) if rows else NOWHERE
            # No server is asked here: what is not in the cache would be an error, and is seen as such.
            resolver._cache.put(key, answer, float("inf"), 500)
        self.seconds: dict[str, list[float]] = {}

    @staticmethod
    def _stranger(number: int, signer: Signer) -> tuple[Session, Envelope, bytes]:
        hello = f"mail{number}.{signer.domain}"
        session = Session(f"session{number:04}", f"192.0.2.{number + 1}", 25, "192.0.2.254", 0.0, hello, True)
        letter = LETTER.replace(STRANGER.encode(), signer.domain.encode()) + b"Letter %d.\r\n" % number
        return session, Envelope(Address("load", signer.domain), (), 4096), signer.signed(letter)

    def _zone(self, signers: list[Signer]) -> dict[tuple[str, str], list[Any]]:
        zone: dict[tuple[str, str], list[Any]] = {}
        for signer in signers:
            domain = signer.domain
            zone[domain, "TXT"] = [b"v=spf1 include:_spf.%s -all" % domain.encode()]
            zone[f"_spf.{domain}", "TXT"] = [b"v=spf1 ip4:198.51.100.0/24 ip4:192.0.2.0/24 ~all"]
            zone[f"_dmarc.{domain}", "TXT"] = [b"v=DMARC1; p=reject"]
            zone[f"s._domainkey.{domain}", "TXT"] = [signer.record.encode()]
        for session, _, _ in self.cases:
            reverse = ".".join(reversed(session.peer_ip.split(".")))
            zone[session.hello, "TXT"] = [b"v=spf1 a -all"]
            zone[session.hello, "A"] = [session.peer_ip]
            zone[session.hello, "AAAA"] = []
            zone[f"{reverse}.in-addr.arpa", "PTR"] = [session.hello]
            for name in LISTS:
                zone[f"{reverse}.{name}", "A"] = []
        for name in LISTS:
            zone[f"2.0.0.127.{name}", "A"] = ["127.0.0.2"]
            zone[f"1.0.0.127.{name}", "A"] = []
        return zone

    def once(self, session: Session, envelope: Envelope, octets: bytes) -> tuple[CheckResult, ...]:
        """One message through all stages, as a conversation asks them."""
        results: tuple[CheckResult, ...] = ()
        message = Message("message", Body(len(octets), octets, None, b""))
        for stage in Stage:
            if self.runner.concerns(stage):
                case = Case(
                    session, envelope, RECIPIENT if stage is Stage.RECIPIENT else None,
                    message if stage is Stage.MESSAGE else None, results,
                )  # fmt: skip
                try:
                    self.runner.run(stage, case).send(None)
                except StopIteration as stop:
                    results += stop.value
                else:
                    raise RuntimeError("a check waits for what should be in the cache")
        return results

    def round(self) -> float:
        """CPU seconds a message, the thread that writes the greylist included."""
        started = time.process_time()
        for case in self.cases:
            results = self.once(*case)
            for result in results:
                self.seconds.setdefault(result.check, []).append(result.elapsed_seconds)
            self.clock.run_due()
            self.from_thread.run()
        spent = (time.process_time() - started) / len(self.cases)
        found = {result.check: result.finding for result in results}
        for check, outcome in self._expected.items():
            if found[check].outcome != outcome:
                raise RuntimeError(f"{check} says {found[check]}")
        return spent

    def warm(self) -> None:
        """Everybody is put off once, comes again, and is known from then on."""
        for _ in range(3):
            for case in self.cases:
                self.once(*case)
            time.sleep(BLOCK)
            self.clock.run_due()
            self.from_thread.run()

    def close(self) -> None:
        closed = self.state.close()
        while not closed.called:
            self.from_thread.run()
            time.sleep(0.001)


def in_process(effort: Effort, folder: Path) -> dict[str, Any]:
    """Rounds over all strangers, each between two calibrations."""
    every: dict[str, list[Figures]] = {}
    notes = []
    kinds = (
        ("as named", "", EXPECTED),
        (CONTENT, CONTENT_CHECKS, CONTENT_EXPECTED),
        ("+ rdns, helo", CONTENT_CHECKS + NAME_CHECKS, CONTENT_EXPECTED),
    )
    for name, more, expected in kinds:
        chain = Chain(Path(tempfile.mkdtemp(dir=folder)), more, expected)
        try:
            chain.warm()
            chain.seconds.clear()
            for _ in range(max(6, int(40 * effort.scale))):
                before = calibrated()
                spent = chain.round()
                turn = (before + calibrated()) / 2
                every.setdefault(name, []).append(
                    {"cpu_ms": spent * 1000, "loop_us": turn * 1e6, "turns": spent / turn * 1000}
                )
            middle = {check: statistics.median(each) * 1e6 for check, each in chain.seconds.items()}
            parts = sorted(middle.items(), key=lambda part: -part[1])
            notes += [f"{name}, the store says: {report}" for report in chain.reports]
            notes.append(f"{name}, us by the clock: " + ", ".join(f"{check} {us:.0f}" for check, us in parts))
        finally:
            chain.close()
    return {
        "scenario": "checks in process",
        "what": "CPU of SPF, DKIM, DMARC, three lists and greylist for a 4 KB message, answers cached, without "
        "sockets; each line has the checks of the one before as well; loop_us is 1000 turns of a plain loop on this "
        "machine, turns is cpu_ms in such turns",
        "figures": medians(every),
        "every": every,
        "notes": notes,
    }


def end_to_end(effort: Effort, folder: Path) -> dict[str, Any]:
    """In a network where CLIENT is an address."""
    signer = Signer(STRANGER)
    letter = folder / "letter"
    letter.write_bytes(signer.signed(LETTER))
    nsd = authority(folder / "nsd", signer)
    peers: dict[str, Peer] = {}
    every: dict[str, list[Figures]] = {}
    notes = []
    left_out = {}
    try:
        peers[CHECKED] = Ours(folder / "checks", "cut-through", first_opinions(nsd.port))
        every_check = first_opinions(nsd.port) + CONTENT_CHECKS
        peers[EVERY_CHECK] = Ours(folder / "every", "cut-through", every_check)
        peers["inboundmx"] = Ours(folder / "plain", "cut-through", "")
        try:
            peers["postfix"] = Postfix(folder / "postfix")
        except NotHere as reason:
            left_out["postfix"] = str(reason)
        for peer in peers.values():
            # The first are put off, and the next one passes; whoever comes later is known.
            forward(peer, 1, 1, message=str(letter), source=CLIENT)
            time.sleep(BLOCK)
            forward(peer, 1, 2, message=str(letter), source=CLIENT)
            forward(peer, 10, 100, message=str(letter), source=CLIENT)
        for name in turns(peers, effort.repeats):
            figures = forward(peers[name], 10, MANY, message=str(letter), source=CLIENT, seconds=effort.seconds)
            every.setdefault(name, []).append(figures)
        # The log is written a little later.
        time.sleep(0.5)
        known = {"greylist": "known passed"}
        found = {
            CHECKED: outcomes(folder / "checks" / "gateway.log", EXPECTED | known),
            EVERY_CHECK: outcomes(folder / "every" / "gateway.log", CONTENT_EXPECTED | known),
        }
    finally:
        for peer in peers.values():
            peer.stop()
        nsd.stop()
    for name, (asked, wrong) in found.items():
        extra = [mine["cpu_ms"] - plain["cpu_ms"] for mine, plain in zip(every[name], every["inboundmx"], strict=True)]
        others = f"all but {wrong}" if wrong else "all"
        notes.append(
            f"{name} cost {statistics.median(extra):.3f} ms CPU a message ({min(extra):.3f} to {max(extra):.3f}) "
            f"beyond a gateway without them; of {asked} letters handed over {others} had the outcomes expected"
        )
    return {
        "scenario": "checks cached",
        "what": "10 sessions, one signed 4 KB message each, lists are asked about the client; all answers cached",
        "figures": medians(every),
        "every": every,
        "notes": notes,
        "left_out": left_out,
        "compare": [[CHECKED, "postfix"], [CHECKED, "inboundmx"]],
    }


def alone(effort: Effort, folder: Path) -> list[dict[str, Any]]:
    return [in_process(effort, folder)]


def measured(effort: Effort, folder: Path) -> list[dict[str, Any]]:
    return [in_own_network(end_to_end, effort, folder)]
