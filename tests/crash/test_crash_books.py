"""The books find each thing that must not be, and forgive only what a cut explains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from books import Arrivals, Books, Copy, Line

# The gateway is killed at this moment, and the primary notices it a little later.
KILL, NOTICED, NEXT = 10.0, 10.1, 20.0


def books(*, unheard: float | None = None, who: str = "gateway", digest: str = "as sent") -> Books:
    made = Books()
    made.sent("s1", digest)
    made.cut(KILL, who)
    if unheard is not None:
        made.not_answered("s1", unheard)
    made.answered("s1", 9.0, 250, "id1")
    return made


def copy(at: float, *, stamps: str = "one", line: str = "before", said: bool = True, digest: str = "as sent") -> Copy:
    return Copy("s1", digest, stamps, line, at, at if said else None)


def arrivals(*copies: Copy) -> Arrivals:
    return Arrivals([*copies], {"before": Line(1.0, NOTICED), "other": Line(1.0), "next": Line(12.0)})


def test_one_copy_is_as_it_should_be() -> None:
    audit = books().audit(arrivals(copy(8.0)))
    assert (audit.promised, audit.arrived) == (1, 1)
    assert (audit.lost, audit.altered, audit.unexplained) == ([], [], [])
    assert (audit.delivered_again, audit.resent) == (0, 0)
    # Those which were open when it was killed.
    assert audit.windows == 2


def test_what_was_promised_and_never_came_is_lost_unless_it_is_kept() -> None:
    assert books().audit(arrivals()).lost == ["s1"]
    kept = books().audit(arrivals(), ["id1"])
    assert (kept.lost, kept.held) == ([], 1)


def test_what_was_not_promised_need_not_come() -> None:
    made = Books()
    made.sent("s1", "as sent")
    made.answered("s1", 9.0, 451, "")
    assert made.audit(arrivals()).lost == []
    assert made.refusals == {451: 1}


@pytest.mark.parametrize("stranger", [copy(8.0, digest="other"), Copy("nobody's", "as sent", "", "before", 8.0, 8.0)])
def test_other_octets_or_another_serial_are_altered(stranger: Copy) -> None:
    assert books().audit(arrivals(copy(8.0), stranger)).altered == [stranger.serial]


@pytest.mark.parametrize(
    ("said", "line", "who", "explained"),
    [
        (9.9, "before", "gateway", True),
        (9.1, "before", "worker", True),
        # Said to who was dead already.
        (10.05, "before", "gateway", True),
        # Long enough to write it down.
        (8.9, "before", "gateway", False),
        # That connection was not cut: it was another worker that died.
        (9.9, "other", "worker", False),
    ],
)
def test_a_second_delivery_is_explained_by_a_cut_soon_after_the_first(
    said: float, line: str, who: str, explained: bool
) -> None:
    audit = books(who=who).audit(arrivals(copy(said, line=line), copy(NEXT, line="next")))
    assert audit.delivered_again == audit.most_again == explained
    assert audit.unexplained == ([] if explained else ["s1"])


def test_a_second_delivery_without_any_cut_is_not_explained() -> None:
    made = Books()
    made.sent("s1", "as sent")
    assert made.audit(arrivals(copy(8.0), copy(NEXT, line="next"))).unexplained == ["s1"]


def test_a_third_delivery_needs_a_cut_of_its_own() -> None:
    copies = copy(9.9), copy(NEXT, line="next"), copy(NEXT + 1, line="next")
    audit = books().audit(arrivals(*copies))
    assert (audit.delivered_again, audit.unexplained) == (1, ["s1"])


def test_what_a_primary_never_answered_may_come_again() -> None:
    audit = books().audit(arrivals(copy(3.0, said=False), copy(NEXT, line="next")))
    assert (audit.unanswered, audit.unexplained) == (1, [])


def test_a_stranger_that_was_cut_off_sends_again() -> None:
    audit = books(unheard=10.2).audit(arrivals(copy(9.9), copy(NEXT, stamps="two", line="next")))
    assert (audit.resent, audit.unexplained) == (1, [])


@pytest.mark.parametrize(
    ("unheard", "first"),
    # Nobody failed to answer it; nobody was killed then; the primary's answer was not passed on in all this time.
    [(None, 9.9), (15.0, 9.9), (10.2, 8.0)],
)
def test_two_receptions_for_no_reason_are_not_explained(unheard: float | None, first: float) -> None:
    audit = books(unheard=unheard).audit(arrivals(copy(first), copy(NEXT, stamps="two", line="next")))
    assert audit.unexplained == ["s1"]


def test_a_journal_is_read_as_it_was_written_but_for_what_a_kill_cut_short(tmp_path: Path) -> None:
    events = [
        ["open", "a", 1.0],
        ["kept", "a", 2.0, "s1", "as sent", "one"],
        ["said", "a", 2.1],
        ["close", "a", 3.0],
        ["open", "b", 4.0],
        ["kept", "b", 5.0, "s2", "as sent", "one"],
    ]
    path = tmp_path / "journal"
    path.write_text("\n".join(map(json.dumps, events)) + '\n["said", "b", 5.')
    read = Arrivals.read(path)
    assert read.copies == [Copy("s1", "as sent", "one", "a", 2.0, 2.1), Copy("s2", "as sent", "one", "b", 5.0)]
    assert read.lines == {"a": Line(1.0, 3.0), "b": Line(4.0)}
    assert [read.open_at(moment) for moment in (0.5, 2.0, 3.5, 9.0)] == [0, 1, 0, 1]
    made = Books()
    made.cut(6.0, "primary")
    read.end(made.cuts)
    assert read.lines["b"] == Line(4.0, 6.0)
