"""Runs the checks of a stage and turns whatever happens to them into outcomes.

Knows tiers, deadlines and that a check may fail. Does not know any check, nor what an outcome is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from inboundmx.checks.api import ALWAYS, Case, Check
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.settings import CheckSettings, Network
from inboundmx.policy.ordering import Position, tiers
from inboundmx.policy.relaying import within
from inboundmx.policy.sparing import Unasked
from inboundmx.ports import Clock, Journal, Timer, Unavailable
from inboundmx.prompt import resumed

# Letters kept of what an error or a check says of itself.
DETAIL_LIMIT = 300

# All that a check may look at of a client.
ANYTHING = frozenset({"", "address", "connection"})

# What stands for a check that was not asked, beside the words that it has.
SKIPPED = Finding("skipped", "nothing it could say would change the verdict")

# What comes of a check whose time is over.
_LATE = object()


class _Planned(NamedTuple):
    """A check with what the runner asks of its settings, looked up once."""

    name: str
    kind: str
    check: Check
    timeout: float
    skip_for: tuple[Network, ...]
    after: frozenset[str]
    outcomes: frozenset[str]
    incoming: bool
    outgoing: bool


# Says of all results so far, and of the checks that are left, whether these need not be asked.
Settled = Callable[[tuple[CheckResult, ...], Sequence[Unasked]], bool]

# Place in the tier, the check, what came (a Finding, a Failure or _LATE), and the seconds it took.
_Arrival = tuple[int, _Planned, Any, float]


class Runner:
    """The configured checks, ready to run. Raises ValueError when checks wait for one another. ``again``: those that
    are asked at a second stage, by name.

    ``journal`` is told (``check_failed``) of faults in a check itself, not of services that did not answer.
    """

    def __init__(
        self, checks: Sequence[tuple[CheckSettings, Check]], clock: Clock, journal: Journal | None = None
    ) -> None:
        self._clock = clock
        self._journal = journal
        planned = {
            settings.name: _Planned(
                settings.name,
                check.kind,
                check,
                settings.timeout,
                settings.skip_for,
                check.after,
                check.words(settings.options) | ALWAYS,
                settings.for_ != "outgoing",
                settings.for_ in ("outgoing", "both") or (not settings.for_ and check.about == "rate"),
            )
            for settings, check in checks
        }
        self.again = frozenset(name for name, plan in planned.items() if plan.check.again is not None)
        positions = [
            Position(name, plan.kind, stage, plan.after, plan.check.dear)
            for name, plan in planned.items()
            for stage in (plan.check.stage, plan.check.again)
            if stage is not None
        ]
        self._tiers = tuple(
            tuple(tuple(planned[name] for name in tier) for tier in tiers(stage, positions)) for stage in Stage
        )
        # After the final dot it depends on the recipients which check counts.
        self._incoming, self._outgoing = (
            tuple(
                tuple(tuple(plan for plan in tier if stage is Stage.MESSAGE or getattr(plan, way)) for tier in tiers)
                for stage, tiers in zip(Stage, self._tiers, strict=True)
            )
            for way in ("incoming", "outgoing")
        )
        self._concerned = [[any(tiers) for tiers in way] for way in (self._incoming, self._outgoing)]
        # Of each stage: how many tiers are asked whatever happens, and the checks of those after them, all dear.
        self._always = tuple(map(_without_dear_ones, self._tiers))
        self._dear = tuple(
            tuple(
                Unasked(plan.name, plan.outcomes, plan.check.most_points) for tier in tiers[always:] for plan in tier
            )
            for tiers, always in zip(self._tiers, self._always, strict=True)
        )

    def concerns(self, stage: Stage, outgoing: bool = False) -> bool:
        """Whether any check looks at this stage, of those for outgoing mail alone; if not, asking can be spared."""
        return self._concerned[outgoing][stage]

    async def run(
        self,
        stage: Stage,
        case: Case,
        settled: Settled | None = None,
        spared: bool = False,
        looking_at: Collection[str] = ANYTHING,
        outgoing: bool = False,
        skipped: Collection[str] = (),
    ) -> tuple[CheckResult, ...]:
        """The results of this stage's checks, one for each that was asked. ``case.results`` are those of the stages
        before; a check with ``after`` sees, of these and of its own stage's, the ones of the kinds it names.

        Dear checks come last. They are not asked when ``settled`` says so, and then are ``SKIPPED``. Of a client that
        is ``spared`` those about spam are not asked either; ``looking_at``: what checks may look at of the client, as
        they say in their ``client``; others are not asked, nor those in ``skipped``, by name. Before the message those
        for ``outgoing`` mail alone are asked, or those for incoming mail.

        Never fails because of a check. Cancelling it cancels the checks that have not finished.
        """
        results: list[CheckResult] = []
        monotonic = self._clock.monotonic
        asked_now = (self._outgoing if outgoing else self._incoming)[stage]
        for number, planned in enumerate(asked_now):
            known = (*case.results, *results)
            if number == self._always[stage] and settled is not None and settled(known, self._dear[stage]):
                results += [
                    CheckResult(plan.name, plan.kind, stage, SKIPPED, case.recipient, 0.0, "all")
                    for tier in asked_now[number:]
                    for plan in tier
                    if not _left_out(plan, case, spared, looking_at, skipped)
                ]
                break
            waiting: _Waiting | None = None
            asked: list[CheckResult | None] = []
            started = monotonic()
            for plan in planned:
                if _left_out(plan, case, spared, looking_at, skipped):
                    continue
                seen = _informed(case, known, plan.after) if plan.after else case
                try:
                    coroutine = plan.check.examine(seen)
                    first = coroutine.send(None)
                except StopIteration as stop:
                    finding = self._found(plan, case, stop.value)
                except Exception as error:  # noqa: BLE001 - a check may fail in any way; the INI weighs it
                    finding = self._failed(plan, case, error)
                else:
                    if waiting is None:
                        waiting = _Waiting(self._clock)
                    waiting.add(len(asked), plan, started, resumed(coroutine, first))
                    asked.append(None)
                    started = monotonic()
                    continue
                ended = monotonic()
                asked.append(CheckResult(plan.name, plan.kind, stage, finding, case.recipient, ended - started))
                started = ended
            if waiting is not None:
                for place, plan, came, elapsed in await waiting.finished():
                    if isinstance(came, Failure):
                        finding = self._failed(plan, case, came.value)
                    elif came is _LATE:
                        finding = Finding("timeout", f"no answer within {plan.timeout:g} s")
                    else:
                        finding = self._found(plan, case, came)
                    asked[place] = CheckResult(plan.name, plan.kind, stage, finding, case.recipient, elapsed)
            results += [result for result in asked if result is not None]
        return tuple(results)

    def _found(self, plan: _Planned, case: Case, finding: Any) -> Finding:
        """What a check said, if it is one of its words; its detail made printable."""
        if not isinstance(finding, Finding) or finding.outcome not in plan.outcomes:
            said = finding.outcome if isinstance(finding, Finding) else type(finding).__name__
            return self._fault(plan, case, printable(f"{said} is no outcome of {plan.kind}"), "")
        if not abs(finding.points) <= plan.check.most_points:
            return self._fault(plan, case, printable(f"{finding.points} points are no score of {plan.kind}"), "")
        if len(finding.detail) > DETAIL_LIMIT or not finding.detail.isprintable():
            return replace(finding, detail=printable(finding.detail))
        return finding

    def _failed(self, plan: _Planned, case: Case, error: BaseException | None) -> Finding:
        if isinstance(error, Unavailable):
            return Finding("error", printable(error.reason))
        try:
            said = str(error)
        except Exception:  # noqa: BLE001 - an error that cannot even be written
            said = ""
        detail = printable(f"{type(error).__name__}: {said}".removesuffix(": "))
        return self._fault(plan, case, detail, _place_of(error))

    def _fault(self, plan: _Planned, case: Case, detail: str, where: str) -> Finding:
        if self._journal is not None:
            fields = {"check": plan.name, "kind": plan.kind, "detail": detail, "where": where}
            self._journal.record("check_failed", case.session.id, fields, level="error")
        return Finding("error", detail)


class _Waiting:
    """The checks of a tier that did not finish at once: one timer, set to the nearest deadline."""

    __slots__ = ("_came", "_clock", "_done", "_pending", "_timer")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._timer: Timer | None = None
        self._done: Deferred[list[_Arrival]] | None = None
        self._came: list[_Arrival] = []
        # By place in the tier: check, start, and the Deferred to cancel.
        self._pending: dict[int, tuple[_Planned, float, Deferred[Any]]] = {}

    def add(self, place: int, plan: _Planned, started: float, rest: Deferred[Any]) -> None:
        self._pending[place] = (plan, started, rest)
        rest.addBoth(self._arrived, place)

    def finished(self) -> Deferred[list[_Arrival]]:
        """Fires with what came of each, when none is pending any more. Cancelling it cancels them."""
        done = self._done = Deferred(self._cancelled)
        if self._pending:
            self._set_timer()
        else:
            done.callback(self._came)
        return done

    def _arrived(self, came: Any, place: int) -> None:
        """The first thing to come for a place counts; what a cancelled check says later is not heard."""
        pending = self._pending.pop(place, None)
        if pending is None:
            return
        plan, started, _ = pending
        self._came.append((place, plan, came, self._clock.monotonic() - started))
        if not self._pending and self._done is not None:
            self._stop_timer()
            self._done.callback(self._came)

    def _set_timer(self) -> None:
        nearest = min(started + plan.timeout for plan, started, _ in self._pending.values())
        self._timer = self._clock.call_later(max(0.0, nearest - self._clock.monotonic()), self._expire)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        late = [
            (place, rest) for place, (plan, started, rest) in self._pending.items() if started + plan.timeout <= now
        ]
        for place, rest in late:
            self._arrived(_LATE, place)
            rest.cancel()
        if self._pending:
            self._set_timer()

    def _cancelled(self, _: Deferred[list[_Arrival]]) -> None:
        self._stop_timer()
        pending, self._pending = self._pending, {}
        for _plan, _started, rest in pending.values():
            rest.cancel()


def _left_out(plan: _Planned, case: Case, spared: bool, looking_at: Collection[str], skipped: Collection[str]) -> bool:
    """Whether a check is not asked of this client, nor said to be skipped."""
    return (
        (spared and plan.check.about == "spam")
        or plan.check.client not in looking_at
        or plan.name in skipped
        or (bool(plan.skip_for) and within(case.session.peer_ip, plan.skip_for))
    )


def _without_dear_ones(tiers: Sequence[Sequence[_Planned]]) -> int:
    """How many tiers there are before the last ones that hold dear checks alone."""
    number = len(tiers)
    while number and all(plan.check.dear for plan in tiers[number - 1]):
        number -= 1
    return number


def printable(text: str) -> str:
    """One bounded line that any log or terminal can show."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:DETAIL_LIMIT])


def _place_of(error: BaseException | None) -> str:
    """File and line where it was raised."""
    trace = None if error is None else error.__traceback__
    if trace is None:
        return "place unknown"
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"


def _informed(case: Case, known: tuple[CheckResult, ...], kinds: frozenset[str]) -> Case:
    """The case with the results a check reads: those that hold for all recipients or for the one it is asked about."""
    recipient = case.recipient
    read = [result for result in known if result.kind in kinds and result.recipient in (None, recipient)]
    return Case(case.session, case.envelope, recipient, case.message, tuple(read), case.domain)
