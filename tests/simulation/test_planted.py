"""Classic faults, planted one at a time: the simulation must notice each, or it proves nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulate import lived
from twisted.internet.defer import succeed
from world import SimulatedSpool

from inboundmx.checks import greylist
from inboundmx.checks.early_talker import EarlyTalker
from inboundmx.delivery import delaying, pool, settling, throttling
from inboundmx.delivery.agenda import Agenda
from inboundmx.delivery.health import Breaker
from inboundmx.delivery.service import DeliveryService
from inboundmx.intake import deposits
from inboundmx.model.custody import Change
from inboundmx.model.finding import Finding
from inboundmx.model.reply import Reply
from inboundmx.policy import retrying
from inboundmx.policy.greylisting import decide
from inboundmx.smtp import server_connection
from inboundmx.smtp.client_content import DotStuffer
from inboundmx.smtp.client_transaction import Transaction

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
    patch.setattr(settling, "deposits_of", lambda *arguments, **named: ())


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


def delivers_what_is_paused_or_disabled(patch):
    patch.setattr(DeliveryService, "_waits", lambda self, name, via: False)


def lets_an_operator_hold_what_is_on_its_way(patch):
    patch.setattr(DeliveryService, "set_aside", lambda self, ids: set(ids))


def uses_up_a_slot_with_every_attempt(patch):
    settle = retrying.settle
    patch.setattr(settling, "settle", lambda *arguments, **named: settle(*arguments, **(named | {"slot": True})))


def never_wakes_what_is_throttled(patch):
    patch.setattr(throttling, "HOUR_SECONDS", 1e9)


def tells_of_failures_nobody_wants_to_hear_of(patch):
    patch.setattr(retrying, "hears_of_failure", lambda notify: True)


def tells_senders_nobody_knows(patch):
    patch.setattr(deposits, "may_notify", lambda bounce, sender, *facts: sender is not None)


def tells_of_the_delay_again_and_again(patch):
    is_late = retrying.is_late
    for module in (retrying, delaying):
        patch.setattr(module, "is_late", lambda entry, *rest: is_late(replace(entry, delay_notified=False), *rest))


def tells_of_success_unasked(patch):
    patch.setattr(retrying, "hears_of_success", lambda notify: True)


def starts_the_retry_clock_anew_at_a_restart(patch):
    start = DeliveryService.start

    def wrong(self):
        index = self._spool._index
        index.update({id: replace(entry, slots_used=0, attempts=0) for id, entry in index.items()})
        start(self)

    patch.setattr(DeliveryService, "start", wrong)


def greylists_who_comes_again_in_time(patch):
    patch.setattr(greylist, "decide", lambda fact, *rest: decide(None, *rest))


def bounces_what_nobody_could_be_asked_about(patch):
    patch.setattr(deposits, "_unverified", lambda arrival, lot: False)


def leaves_connections_open(patch):
    patch.setattr(pool, "IDLE_SECONDS", 1e9)


def believes_anybody_who_names_another(patch):
    patch.setattr(server_connection, "within", lambda ip, networks: True)


def greets_who_does_not_wait(patch):
    async def never_early(self, case):
        return Finding("no")

    patch.setattr(EarlyTalker, "examine", never_early)


FAULTS = [
    believes_anybody_who_names_another,
    greets_who_does_not_wait,
    bounces_what_nobody_could_be_asked_about,
    starts_the_retry_clock_anew_at_a_restart,
    greylists_who_comes_again_in_time,
    leaves_connections_open,
    delivers_what_is_paused_or_disabled,
    lets_an_operator_hold_what_is_on_its_way,
    uses_up_a_slot_with_every_attempt,
    never_wakes_what_is_throttled,
    tells_of_failures_nobody_wants_to_hear_of,
    tells_senders_nobody_knows,
    tells_of_the_delay_again_and_again,
    tells_of_success_unasked,
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
        if lived(seed, settings):
            return
    pytest.fail(f"{SEEDS} days went by and nobody noticed that it {fault.__name__.replace('_', ' ')}")
