"""Classic faults, planted one at a time: the simulation must notice each, or it proves nothing."""

from __future__ import annotations

import pytest
from test_worlds import settings
from twisted.internet.defer import succeed
from world import SimulatedSpool, World

from inboundmx.delivery import service
from inboundmx.delivery.agenda import Agenda
from inboundmx.delivery.health import Breaker
from inboundmx.delivery.service import DeliveryService
from inboundmx.model.custody import Change
from inboundmx.model.reply import Reply
from inboundmx.policy import retrying
from inboundmx.smtp.client_content import DotStuffer
from inboundmx.smtp.client_transaction import Transaction

__all__ = ["settings"]

# In so many days each fault has shown itself.
SEEDS = 60
OK = Reply(250, "2.0.0", "ok")


def says_250_before_the_commit(patch):
    commit = SimulatedSpool.commit

    def early(self, change):
        commit(self, change).addErrback(lambda _: None)
        return succeed(None)

    patch.setattr(SimulatedSpool, "commit", early)


def says_250_when_the_disk_is_full(patch):
    commit = SimulatedSpool.commit
    patch.setattr(SimulatedSpool, "commit", lambda self, change: commit(self, change).addErrback(lambda _: None))


def takes_a_deferral_for_a_delivery(patch):
    answered = retrying._answered

    def wrong(recipient, reply, attempt):
        return answered(recipient, OK if reply is not None and reply.temporary else reply, attempt)

    patch.setattr(retrying, "_answered", wrong)


def tells_recipients_apart_by_position(patch):
    finish = Transaction._finish

    def wrong(self, trouble="", *, keep=True):
        self._answers.reverse()
        finish(self, trouble, keep=keep)

    patch.setattr(Transaction, "_finish", wrong)


def forgets_the_notice(patch):
    patch.setattr(service, "deposits_of", lambda *arguments, **named: ())


def forgets_to_remove_what_was_delivered(patch):
    patch.setattr(SimulatedSpool, "remove_soon", lambda self, id: self._index.pop(id, None))


def does_not_stuff_dots(patch):
    patch.setattr(DotStuffer, "stuffed", lambda self, piece: (piece,))


def never_closes_the_breaker(patch):
    patch.setattr(Breaker, "_set_timer", lambda self: None)
    patch.setattr(Breaker, "knock", lambda self: succeed(self.refused))


def adopts_nothing_at_the_start(patch):
    patch.setattr(DeliveryService, "start", lambda self: None)


def loses_what_is_put_again_while_it_runs(patch):
    put = Agenda.put

    def wrong(self, entry, seconds, **named):
        if entry.attempts <= 2:
            put(self, entry, seconds, **named)

    patch.setattr(Agenda, "put", wrong)


def promises_the_first_recipients_alone(patch):
    commit = SimulatedSpool.commit

    def wrong(self, change):
        return commit(self, Change(change.add[:1], change.update, change.remove))

    patch.setattr(SimulatedSpool, "commit", wrong)


FAULTS = [
    says_250_before_the_commit,
    says_250_when_the_disk_is_full,
    takes_a_deferral_for_a_delivery,
    tells_recipients_apart_by_position,
    forgets_the_notice,
    forgets_to_remove_what_was_delivered,
    does_not_stuff_dots,
    never_closes_the_breaker,
    adopts_nothing_at_the_start,
    loses_what_is_put_again_while_it_runs,
    promises_the_first_recipients_alone,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_noticed(settings, monkeypatch, fault):
    fault(monkeypatch)
    for seed in range(SEEDS):
        world = World(seed, settings)
        try:
            world.live()
        except Exception:
            return
        if world.verdict():
            return
    pytest.fail(f"{SEEDS} days went by and nobody noticed that it {fault.__name__.replace('_', ' ')}")
