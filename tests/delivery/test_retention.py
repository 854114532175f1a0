"""Mail that is kept for a time goes when it is over, and nothing else does."""

from dataclasses import replace

from delivery_fakes import ANN, DOMAIN, SENDER, FakeClock
from fakes.spool import FakeSpool

from inboundmx.delivery import retention
from inboundmx.delivery.retention import EVERY_SECONDS, Retention
from inboundmx.model.custody import Change, Content, Deposit, SpoolEntry, SpoolRecipient, State
from inboundmx.model.message import Body
from inboundmx.ports import Unavailable

CONTENT = Content(b"", 0, Body(1, b"x", None, b""))


class Lines:
    def __init__(self):
        self.events = []

    def record(self, event, id, fields, *, level="info"):
        self.events.append((event, id))


def keep(spool, id, state, expires_at):
    entry = SpoolEntry(id, f"m{id}", id, 0.0, SENDER, (SpoolRecipient(ANN),), 1, DOMAIN, state=state)
    spool.commit(Change(add=(Deposit(replace(entry, expires_at=expires_at), CONTENT),)))


def test_what_is_over_goes_with_a_record_and_the_rest_stays():
    clock, spool, lines = FakeClock(), FakeSpool(), Lines()
    now = clock.now()
    keep(spool, "over", State.HELD, now)
    keep(spool, "quarantined", State.QUARANTINED, now - 1)
    keep(spool, "later", State.HELD, now + EVERY_SECONDS)
    keep(spool, "for ever", State.HELD, None)
    keep(spool, "active", State.ACTIVE, now - 1)
    watch = Retention(spool, clock, lines)
    watch.start()
    assert sorted(entry.id for entry in spool.entries()) == ["active", "for ever", "later"]
    assert sorted(lines.events) == [("expired", "mover"), ("expired", "mquarantined")]
    clock.advance(EVERY_SECONDS)
    assert sorted(entry.id for entry in spool.entries()) == ["active", "for ever"]
    watch.stop()
    assert not clock.turned.getDelayedCalls()


def test_a_crowd_goes_in_steps(monkeypatch):
    monkeypatch.setattr(retention, "AT_ONCE", 2)
    clock, spool, lines = FakeClock(), FakeSpool(), Lines()
    for number in range(5):
        keep(spool, f"e{number}", State.HELD, clock.now())
    spool.commits.clear()
    Retention(spool, clock, lines).start()
    clock.advance(1)
    assert [len(change.remove) for change in spool.commits] == [2, 2, 1]


def test_a_disk_that_fails_is_reported_and_looked_at_again():
    clock, spool, lines = FakeClock(), FakeSpool(), Lines()
    keep(spool, "over", State.HELD, clock.now())
    spool.failure = Unavailable("sync")
    Retention(spool, clock, lines).start()
    assert lines.events == [("spool_trouble", "")]
    assert clock.turned.getDelayedCalls()
