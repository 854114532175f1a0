"""What is done to a gateway while strangers send: kills, stops, new settings, a primary that drops after the dot.

Knows when what happens, by a seed. Does not know how the books are audited; each campaign returns a ``Report``.
"""

from __future__ import annotations

import hashlib
import random
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from books import Audit
from programs import DOMAIN, Wire, stuffed, until
from scene import DRAIN_SECONDS, Scene, scene
from senders import Strangers, message

# A kill comes so long after the first greeting; one in so many instead so long after the start of the process.
SOONEST, LATEST = 0.05, 3.0
IN_THE_START = 5
# The primary is away from one kill to the next, so often.
AWAY = 0.25
# Kills of single workers between two of everything: one that dies again and again is started ever later.
SPARED = 6
# How many messages more than asked for the strangers may send while there are kills left.
SURPLUS = 20
EXIT_SECONDS = 10.0
MORE_THAN_TIME_FOR = 1_000_000

Told = Callable[[str], object]


@dataclass
class Report:
    name: str
    audit: Audit
    seconds: float
    faults: dict[str, int] = field(default_factory=dict)
    """How often what was done."""
    ready: list[float] = field(default_factory=list)
    """Seconds from a start to the answer to EHLO, and of CPU until then."""
    ready_cpu: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """What else must not be, in words."""

    def verdict(self) -> list[str]:
        """What failed; nothing, if all is well."""
        told = {"lost": self.audit.lost, "altered": self.audit.altered, "unexplained copies": self.audit.unexplained}
        said = [f"{len(names)} {what}: {' '.join(names[:5])}" for what, names in told.items() if names]
        return [*said, *self.wrong]

    def figures(self) -> dict[str, Any]:
        """In whole numbers and milliseconds, for a page of figures."""
        audit = self.audit
        return {
            "campaign": self.name,
            **self.faults,
            "seconds": round(self.seconds, 1),
            "sent": audit.sent,
            "promised": audit.promised,
            "arrived": audit.arrived,
            "lost": len(audit.lost),
            "altered": len(audit.altered),
            "unexplained_copies": len(audit.unexplained),
            "resent_by_strangers": audit.resent,
            "delivered_again": audit.delivered_again,
            "most_again_after_one_cut": audit.most_again,
            "not_answered_by_the_primary": audit.unanswered,
            "connections_open_at_cuts": audit.windows,
            "held": audit.held,
            "ready_ms_median": round(1000 * statistics.median(self.ready)),
            "ready_ms_worst": round(1000 * max(self.ready)),
            "ready_cpu_ms_median": round(1000 * statistics.median(self.ready_cpu)),
            "failed": self.verdict(),
        }


def _report(name: str, made: Scene, began: float, faults: dict[str, int], wrong: list[str]) -> Report:
    left = made.settle()
    audit = made.books.audit(made.primary.arrivals(), left)
    wrong += [f"half done before a start and after it: {each}" for each in made.half]
    wrong += [f"left in the folder: {each}" for each in ([] if left else made.litter())]
    wrong += [f"a fault of ours: {str(each)[-2000:]}" for each in made.gateway.faults()]
    wrong += [f"{code} said {times} times" for code, times in made.books.refusals.items() if code >= 500]
    return Report(name, audit, time.monotonic() - began, faults, made.ready, made.ready_cpu, wrong)


# --- kills ------------------------------------------------------------------------------------------------------------


def kills(
    workers: int, handover: str, victim: str, times: int, messages: int, seed: int, tell: Told, latest: float = LATEST
) -> Report:
    """kill -9 of ``victim`` (``gateway``: its whole process group; ``worker``: mostly one alone) ``times`` times while
    at least ``messages`` are sent; the primary is away now and then."""
    name = f"kill {victim}, workers = {workers}, {handover}"
    chance, began = random.Random(f"{seed} {name}"), time.monotonic()
    faults = {"kills": 0, "primary_kills": 0}
    with scene(workers, handover) as made:
        made.primary.start()
        made.start()
        strangers = Strangers(made.gateway.port, made.books, seed, messages * SURPLUS)
        for number in range(times):
            _primary(made, chance, faults)
            last = number == times - 1
            if victim == "worker" and number % SPARED != SPARED - 1:
                time.sleep(chance.uniform(SOONEST, latest))
                made.kill_worker(chance.choice(until("a worker", made.living_workers)))
            else:
                time.sleep(chance.uniform(SOONEST, latest))
                made.kill()
                made.begin()
                if number % IN_THE_START == 0 and not last:
                    time.sleep(chance.uniform(0.0, 1.0))
                    made.kill()
                    made.begin()
                    faults["kills"] += 1
                made.until_ready()
            faults["kills"] += 1
            tell(f"{name}: {number + 1} of {times}, {len(made.books.promises)} messages promised")
        made.primary_comes()
        until("enough messages", lambda: len(made.books.promises) >= messages or strangers.done, 60 + messages / 10)
        strangers.finish()
        return _report(name, made, began, faults, [])


def _primary(made: Scene, chance: random.Random, faults: dict[str, int]) -> None:
    if not made.primary.running:
        made.primary_comes()
    elif chance.random() < AWAY:
        made.primary_goes()
        faults["primary_kills"] += 1


# --- stops ------------------------------------------------------------------------------------------------------------


def stops(workers: int, handover: str, times: int, seed: int, tell: Told) -> Report:
    """SIGTERM under load: who is idle hears 421, whose message is under way is answered, and nothing arrives twice."""
    name = f"stop, workers = {workers}, {handover}"
    chance, began = random.Random(f"{seed} {name}"), time.monotonic()
    wrong: list[str] = []
    slowest = 0.0
    with scene(workers, handover) as made:
        made.primary.start()
        made.start()
        strangers = Strangers(made.gateway.port, made.books, seed, MORE_THAN_TIME_FOR)
        for number in range(times):
            promised = len(made.books.promises)
            until("some mail", lambda promised=promised: len(made.books.promises) > promised + 20)
            time.sleep(chance.uniform(0.0, 0.5))
            took, said = _stop(made, number, chance)
            slowest = max(slowest, took)
            wrong += [f"stop {number}: {each}" for each in said]
            made.start()
            tell(f"{name}: {number + 1} of {times}, {len(made.books.promises)} messages promised, {took:.1f} s")
        strangers.finish()
        if made.books.unheard:
            wrong.append(f"{len(made.books.unheard)} strangers heard nothing after they had begun to send content")
        return _report(name, made, began, {"stops": times, "slowest_stop_ms": round(1000 * slowest)}, wrong)


def _stop(made: Scene, number: int, chance: random.Random) -> tuple[float, list[str]]:
    """Seconds to the exit, and what was wrong: for one who is idle, one who is sending, and the process."""
    wrong = []
    serial = f"busy{number}"
    content = message(serial, 2000, chance)
    made.books.sent(serial, hashlib.sha256(content).hexdigest())
    with ExitStack() as open_wires:
        idle, busy = (open_wires.enter_context(Wire(made.gateway.port, timeout=30)) for _ in range(2))
        idle.hello()
        busy.hello()
        busy.envelope("a@stranger.example", f"user@{DOMAIN}")
        if busy.ask("DATA").code != 354:
            return 0.0, ["no DATA before the stop"]
        busy.send(stuffed(content))
        began = time.monotonic()
        assert made.gateway.process is not None
        made.gateway.process.terminate()
        if (code := idle.reply().code) != 421:
            wrong.append(f"who was idle heard {code}")
        busy.send(b".\r\n")
        answer = busy.reply()
        made.books.answered(serial, time.monotonic(), answer.code, answer.id)
        if answer.code not in (250, 421, 451):
            wrong.append(f"who was sending heard {answer}")
    status = made.gateway.end(patience=2 * EXIT_SECONDS)
    took = time.monotonic() - began
    if status != 0:
        wrong.append(f"exit status {status}")
    if took > EXIT_SECONDS:
        wrong.append(f"it took {took:.1f} s")
    return took, wrong


# --- new settings -----------------------------------------------------------------------------------------------------


def reloads(workers: int, handover: str, times: int, within: float, seed: int, tell: Told) -> Report:
    """SIGHUP under load, every fifth with settings that cannot be used: nobody notices."""
    name = f"reload, workers = {workers}, {handover}"
    began = time.monotonic()
    wrong: list[str] = []
    with scene(workers, handover) as made:
        made.primary.start()
        made.start()
        strangers = Strangers(made.gateway.port, made.books, seed, MORE_THAN_TIME_FOR)
        loading = time.monotonic()
        refused = 0
        for number in range(times):
            promised = len(made.books.promises)
            broken = number % 5 == 4
            refused += broken
            # Both differ from what is in force, so that something is done.
            right = made.sections + f"\n[smtp]\nmax_hop_count = {50 + number}\n"
            made.gateway.configure("[nonsense]\n" if broken else right)
            made.gateway.hangup()
            event, heard = ("reload_refused", refused) if broken else ("reloaded", number + 1 - refused)
            until(event, lambda event=event, heard=heard: len(made.gateway.log_events(event=event)) >= heard)
            until("mail goes on", lambda promised=promised: len(made.books.promises) > promised)
            time.sleep(max(0.0, loading + (number + 1) * within / times - time.monotonic()))
            tell(f"{name}: {number + 1} of {times}, {len(made.books.promises)} messages promised")
        strangers.finish()
        told = [event.get("trouble") or event.get("problems") or event for event in _refusals(made)]
        wrong += [f"settings refused without a word: {each}" for each in told if "nonsense" not in str(each)]
        if made.books.turned_away or made.books.unheard:
            wrong.append(f"{made.books.turned_away} could not connect, {len(made.books.unheard)} were cut")
        return _report(name, made, began, {"reloads": times, "of_them_unusable": refused}, wrong)


def _refusals(made: Scene) -> list[dict[str, Any]]:
    return made.gateway.log_events(event="reload_refused")


# --- a primary that drops ---------------------------------------------------------------------------------------------


def drops(handover: str, messages: int, seed: int, tell: Told) -> Report:
    """The primary takes every third message and closes without a word: tried again, not soon, and as it was."""
    name = f"drop after the dot, {handover}"
    began = time.monotonic()
    wrong: list[str] = []
    with scene(0, handover, drop=3) as made:
        made.primary.start()
        made.start()
        strangers = Strangers(made.gateway.port, made.books, seed, messages)
        until("all sent", lambda: strangers.done, 60 + messages)
        strangers.finish()
        tell(f"{name}: {messages} sent")
        dropped = messages // 3

        def kept() -> list[dict[str, Any]]:
            rows = made.gateway.listed("spool", "list")
            came = len(made.primary.arrivals().copies) >= messages
            return rows if came and len(rows) == dropped else []

        rows = until("all delivered but those", kept, DRAIN_SECONDS)
        soonest = min(row["next_attempt_at"] for row in rows) - time.time()
        if soonest < 500:
            wrong.append(f"one would have been tried again after {soonest:.0f} s")
        report = _report(name, made, began, {"dropped": dropped, "soonest_retry_s": round(soonest)}, wrong)
        # Each came once more, with the same stamps.
        if (report.audit.arrived, report.audit.unanswered) != (messages + dropped, dropped):
            wrong.append(f"{report.audit.arrived} arrived, {report.audit.unanswered} as they had been, of {dropped}")
        return report
