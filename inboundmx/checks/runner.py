"""Runs the checks of a stage and turns whatever happens to them into outcomes.

Knows tiers, deadlines and that a check may fail. Does not know any check, nor what an outcome is worth.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from inboundmx.checks.api import ALWAYS, Case, Check
from inboundmx.model.finding import CheckResult, Finding, Stage
from inboundmx.model.settings import CheckSettings, Network
from inboundmx.policy.ordering import Position, tiers
from inboundmx.ports import Clock, Journal, Timer, Unavailable
from inboundmx.prompt import promptly

# Letters kept of what an error or a check says of itself.
DETAIL_LIMIT = 300

_TIMEOUT = "timeout"


class _Planned(NamedTuple):
    """A check with what the runner asks of its settings, looked up once."""

    name: str
    check: Check
    timeout: float
    skip_for: tuple[Network, ...]
    after: frozenset[str]
    outcomes: frozenset[str]


class Runner:
    """The configured checks, ready to run. Raises ValueError when checks wait for one another.

    ``journal`` is told (``check_failed``) of faults in a check itself, not of services that did not answer.
    """

    def __init__(
        self, checks: Sequence[tuple[CheckSettings, Check]], clock: Clock, journal: Journal | None = None
    ) -> None:
        self._clock = clock
        self._journal = journal
        planned = {
            settings.name: _Planned(
                settings.name, check, settings.timeout, settings.skip_for, check.after, check.outcomes | ALWAYS
            )
            for settings, check in checks
        }
        positions = [Position(name, plan.check.kind, plan.check.stage, plan.after) for name, plan in planned.items()]
        self._tiers = tuple(
            tuple(tuple(planned[name] for name in tier) for tier in tiers(stage, positions)) for stage in Stage
        )

    async def run(self, stage: Stage, case: Case) -> tuple[CheckResult, ...]:
        """The results of this stage's checks, one for each that was asked. ``case.results`` are those of the stages
        before; a check sees, of these and of its own stage's, the ones of the kinds it names in ``after``.

        Never fails because of a check. Cancelling it cancels the checks that have not finished.
        """
        results: list[CheckResult] = []
        for planned in self._tiers[stage]:
            tier = _Tier(self._clock, self._journal, stage, case)
            tier.start(planned, (*case.results, *results))
            if tier.pending:
                await tier.finished()
            results += [result for result in tier.results if result is not None]
        return tuple(results)


class _Tier:
    """Checks that run side by side: those that finish at once leave nothing behind; for the others there is one timer,
    set to the nearest deadline."""

    __slots__ = ("_case", "_clock", "_closed", "_done", "_journal", "_stage", "_timer", "pending", "results")

    def __init__(self, clock: Clock, journal: Journal | None, stage: Stage, case: Case) -> None:
        self._clock = clock
        self._journal = journal
        self._stage = stage
        self._case = case
        self._done: Deferred[None] | None = None
        self._timer: Timer | None = None
        self._closed = False
        self.results: list[CheckResult | None] = []
        # By place among the results: check, start, and the Deferred to cancel.
        self.pending: dict[int, tuple[_Planned, float, Deferred[object]]] = {}

    def start(self, planned: Iterable[_Planned], known: tuple[CheckResult, ...]) -> None:
        case, results = self._case, self.results
        started = self._clock.monotonic()
        for plan in planned:
            if plan.skip_for and _within(case.session.peer_ip, plan.skip_for):
                continue
            seen = case
            if plan.after:
                read = _of_kinds(known, plan.after, case)
                seen = Case(case.session, case.envelope, case.recipient, case.message, read)
            place = len(results)
            results.append(None)
            waiting = promptly(
                plan.check.examine(seen),
                partial(self._found, place, plan, started),
                partial(self._failed, place, plan, started),
            )
            if waiting is not None and results[place] is None:
                self.pending[place] = (plan, started, waiting)
            started = self._clock.monotonic()

    def finished(self) -> Deferred[None]:
        """Fires when no check is pending any more. Cancelling it cancels them."""
        self._done = Deferred(self._cancelled)
        self._set_timer()
        return self._done

    def _found(self, place: int, plan: _Planned, started: float, finding: Finding) -> None:
        if self._closed or self.results[place] is not None:
            return
        if not isinstance(finding, Finding) or finding.outcome not in plan.outcomes:
            said = finding.outcome if isinstance(finding, Finding) else type(finding).__name__
            detail = printable(f"{said} is no outcome of {plan.check.kind}")
            self._fault(plan, detail)
            finding = Finding("error", detail)
        elif len(finding.detail) > DETAIL_LIMIT or not finding.detail.isprintable():
            finding = Finding(finding.outcome, printable(finding.detail), finding.authentication)
        self._settle(place, plan, started, finding)

    def _failed(self, place: int, plan: _Planned, started: float, failure: Failure) -> None:
        if self._closed or self.results[place] is not None:
            return
        error = failure.value
        if isinstance(error, Unavailable):
            detail = printable(error.reason)
        else:
            detail = printable(f"{type(error).__name__}: {failure.getErrorMessage()}".removesuffix(": "))
            self._fault(plan, f"{detail} ({_place_of(error)})")
        self._settle(place, plan, started, Finding("error", detail))

    def _settle(self, place: int, plan: _Planned, started: float, finding: Finding) -> None:
        """Keeps the one finding for a place; what a cancelled check says later is not heard."""
        self.results[place] = CheckResult(
            plan.name, plan.check.kind, self._stage, finding, self._case.recipient, self._clock.monotonic() - started
        )
        self.pending.pop(place, None)
        if not self.pending and self._done is not None:
            done, self._done = self._done, None
            self._stop_timer()
            done.callback(None)

    def _set_timer(self) -> None:
        nearest = min(started + plan.timeout for plan, started, _ in self.pending.values())
        self._timer = self._clock.call_later(max(0.0, nearest - self._clock.monotonic()), self._expire)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        late = [place for place, (plan, started, _) in self.pending.items() if started + plan.timeout <= now]
        for place in late:
            if place not in self.pending:
                continue  # cancelling another one ended it
            plan, started, waiting = self.pending[place]
            self._settle(place, plan, started, Finding(_TIMEOUT, f"no answer within {plan.timeout:g} s"))
            waiting.cancel()
        if self.pending:
            self._set_timer()

    def _cancelled(self, _: Deferred[None]) -> None:
        self._closed = True
        self._done = None
        self._stop_timer()
        pending, self.pending = self.pending, {}
        for _plan, _started, waiting in pending.values():
            waiting.cancel()

    def _fault(self, plan: _Planned, detail: str) -> None:
        if self._journal is not None:
            fields = {"check": plan.name, "kind": plan.check.kind, "detail": printable(detail)}
            self._journal.record("check_failed", self._case.session.id, fields, level="error")


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


def _of_kinds(known: tuple[CheckResult, ...], kinds: frozenset[str], case: Case) -> tuple[CheckResult, ...]:
    """What a check is told: results that hold for all recipients, and those of the recipient it is asked about."""
    return tuple(
        result for result in known if result.kind in kinds and result.recipient in (None, case.recipient)
    )


@lru_cache(maxsize=1024)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _within(peer: str, networks: tuple[Network, ...]) -> bool:
    address = _address(peer)
    return address is not None and any(address in network for network in networks)
