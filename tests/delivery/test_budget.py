"""Connections in all: who may have one, and who is asked when one comes free."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.delivery.budget import Budget, Standing

ANSWERS, NEW, SILENT = Standing


class Holder:
    """Wants one more each time it is called."""

    def __init__(self, budget, standing=ANSWERS):
        self.budget = budget
        self.standing = standing
        self.has = 0
        self.idle = 0
        budget.enter(self)

    def spare_one(self):
        if not self.idle:
            return False
        self.idle -= 1
        self.has -= 1
        self.budget.moved()
        return True

    def grow(self):
        self.has += self.budget.take(self, self.standing)

    def hold(self, many):
        for _ in range(many):
            self.grow()
        return self.has

    def fill(self):
        while self.budget.take(self, self.standing):
            self.has += 1
        return self.has


@pytest.mark.parametrize(
    ("limit", "standing", "most"), [(50, ANSWERS, 50), (50, NEW, 25), (50, SILENT, 12), (1, SILENT, 1), (3, NEW, 1)]
)
def test_shares(limit, standing, most):
    assert Holder(Budget(lambda: limit), standing).fill() == most


def test_the_silent_and_the_new_together_have_half():
    budget = Budget(lambda: 40)
    assert Holder(budget, SILENT).fill() == 10
    assert Holder(budget, NEW).fill() == 10
    assert Holder(budget, ANSWERS).fill() == 20


def test_what_answers_makes_room_for_the_next_that_may_not():
    budget = Budget(lambda: 8)
    first, second = Holder(budget, NEW), Holder(budget, NEW)
    assert (first.hold(4), second.hold(1)) == (4, 0)
    budget.answered(NEW)
    assert second.has == 1
    budget.give(NEW)
    assert second.has == 1  # it was asked once and is content
    assert second.hold(1) == 2


def test_who_answers_is_asked_first_and_the_silent_last():
    budget = Budget(lambda: 4)
    most = Holder(budget)
    assert most.hold(4) == 4
    holders = [Holder(budget, standing) for standing in (SILENT, NEW, ANSWERS)]
    for holder in holders:
        holder.grow()
    for expected in ([0, 0, 1], [0, 1, 1], [1, 1, 1]):
        budget.give()
        assert [holder.has for holder in holders] == expected


def test_an_idle_connection_of_another_makes_room():
    budget = Budget(lambda: 4)
    one, other = Holder(budget), Holder(budget)
    one.fill()
    one.idle = 1
    assert budget.take(other)
    assert not budget.take(other)


@given(st.lists(st.tuples(st.sampled_from(Standing), st.sampled_from(["take", "give", "answer"])), max_size=200))
def test_never_more_than_there_may_be(steps):
    budget = Budget(lambda: 10)
    holder = Holder(budget)
    open, opening = 0, {NEW: 0, SILENT: 0}
    for standing, step in steps:
        if step == "take":
            if budget.take(holder, standing):
                if standing:
                    opening[standing] += 1
                else:
                    open += 1
        elif standing and opening[standing]:
            before = holder.has
            opening[standing] -= 1
            if step == "answer":
                budget.answered(standing)
                open += 1
            else:
                budget.give(standing)
            open += holder.has - before
        elif not standing and step == "give" and open:
            before = holder.has
            open -= 1
            budget.give()
            open += holder.has - before
        assert open + sum(opening.values()) == budget._used <= 10
        assert sum(opening.values()) <= 5 and opening[SILENT] <= 2
