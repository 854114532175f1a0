"""Evaluates SPF (RFC 7208) with pyspf, which is made for blocking, without a thread.

pyspf asks a function for DNS and expects an answer. Ours looks among the answers that are known; where one is missing
it raises, the look-up is awaited, and pyspf runs again from the start. Knows pyspf and the bounds of an evaluation.
Does not know whose mail it is.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import spf

from inboundmx.checks.questions import Question, Questions
from inboundmx.checks.spf_record import is_record, too_large, visible
from inboundmx.ports import Answer, Unavailable

# Times pyspf is run for one identity, and questions asked for all identities of a message: RFC 7208 4.6.4 allows
# ten terms, of which each mx and ptr may need ten addresses more. Beyond EAGER nothing is asked ahead of its need.
ROUNDS = 40
QUESTIONS = 100
EAGER = 20
EXPLANATION_LIMIT = 200
# Octets of all records of one run: it holds up everybody else while it reads them.
RECORDS_LIMIT = 16 * 1024
# Addresses or names that are looked at in one answer, for the same reason.
ROWS_LIMIT = 64

TOO_MANY = "the record needs too many look-ups"


class _Missing(BaseException):
    """An answer is not known yet. Not an Exception, so that no handler in the library takes it for its own."""


class _Run:
    """One run of pyspf: the answers it used, and the first that was missing."""

    __slots__ = ("missing", "octets", "questions", "used")

    def __init__(self, questions: Questions) -> None:
        self.questions = questions
        self.used: list[Question] = []
        self.missing: Question | None = None
        self.octets = 0

    def look_up(self, name: str, type: str) -> list[tuple[Question, Any]]:
        if not name.isascii():
            return []
        question = (name.lower(), type)
        answer = self._answer(question)
        if isinstance(answer, Unavailable):
            raise spf.TempError("DNS gave no answer", name)
        if not isinstance(answer, Answer):
            # Not there yet; or a fault of ours, which is raised where it is awaited.
            if self.missing is None:
                self.missing = question
            raise _Missing
        self.used.append(question)
        if type != "TXT":
            return [(question, row) for row in answer.rows[:ROWS_LIMIT]]
        records = [row for row in answer.rows if is_record(row)]
        self.octets += sum(map(len, records))
        if self.octets > RECORDS_LIMIT or any(map(too_large, records)):
            raise spf.PermError("the record is too large", name)
        return [(question, (row,)) for row in answer.rows]

    def _answer(self, question: Question) -> Any:
        questions = self.questions
        if question not in questions.known and questions.asked < QUESTIONS:
            # What the resolver remembers is there at once: the run goes on, and is not begun anew for each answer.
            questions.begin(question)
        return questions.known.get(question)


class _Query(spf.query):  # type: ignore[misc]
    """Names of the client that DNS gives no answer for are passed over (RFC 7208 5.5), as if it had none."""

    def validated_ptrs(self) -> list[str]:
        try:
            names = self.dns_ptr(self.i)[: spf.MAX_PTR]
        except spf.TempError:
            return []
        return [name for name in names if self._leads_back(name)]

    def _leads_back(self, name: str) -> bool:
        try:
            return bool(self.cidrmatch(self.dns_a(name, self.A), self.cidrmax))
        except spf.TempError:
            return False


_running: ContextVar[_Run] = ContextVar("running")


def _look_up(name: str, type: str, strict: bool = True, timeout: float = 0) -> list[tuple[Question, Any]]:
    return _running.get().look_up(name, type)


# Nothing is awaited while pyspf runs, so one hook for all is safe: each run has its own answers.
spf.DNSLookup = _look_up


async def evaluate(questions: Questions, ip: str, sender: str, hello: str, receiver: str) -> tuple[str, str]:
    """The outcome by RFC 7208 2.6, and why: the domain's explanation of a fail, or what is wrong.

    ``sender`` empty: the HELO identity, postmaster@``hello``.
    """
    outcome, explanation = "", ""
    address_type = "AAAA" if ":" in ip else "A"
    for _ in range(ROUNDS):
        run = _Run(questions)
        outcome, explanation = _run(run, ip, sender, hello, receiver)
        # pyspf itself lets a missing explanation pass, and that matters where the explanation is used.
        if run.missing is None or outcome not in ("", "fail"):
            return outcome, explanation[:EXPLANATION_LIMIT]
        if not questions.begun(run.missing):
            break
        _ask_ahead(questions, run, run.missing, address_type)
        await questions.answer(run.missing)
    return (outcome, explanation[:EXPLANATION_LIMIT]) if outcome else ("permerror", TOO_MANY)


def _run(run: _Run, ip: str, sender: str, hello: str, receiver: str) -> tuple[str, str]:
    """Outcome and explanation; the outcome is empty when an answer was missing."""
    token = _running.set(run)
    try:
        query = _Query(i=ip, s=sender, h=hello, receiver=receiver, strict=True)
        if sender:
            # A quoted local part may hold an @ of its own.
            local, _, query.o = sender.rpartition("@")
            query.l, query.d = local or "postmaster", query.o
        outcome, _, explanation = query.check()
    except _Missing:
        return "", ""
    except Exception as error:  # noqa: BLE001 - whatever a stranger's record does to the library is the record's fault
        return "permerror", f"the record cannot be evaluated ({type(error).__name__})"
    finally:
        _running.reset(token)
    return str(outcome), str(explanation)


def _ask_ahead(questions: Questions, run: _Run, missing: Question, address_type: str) -> None:
    """Begins what stands behind the missing question in the same record: it will likely be needed next."""
    for question in reversed(run.used):
        answer = questions.known[question]
        assert isinstance(answer, Answer)
        found = list(visible(question, answer, address_type))
        if missing in found:
            for other in found[found.index(missing) + 1 :]:
                if questions.asked >= EAGER:
                    return
                questions.begin(other)
            return
