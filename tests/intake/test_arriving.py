"""What is known of a client before it has said anything: refused, strange or an acquaintance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes.clock import FakeClock
from fakes.journal import FakeJournal
from fakes.lists import lists
from fakes.state import FakeStateStore
from gate import ANN, MAIL, SESSION, SPAM, Gate, check, settings

from inboundmx.intake import known_good, turning_away
from inboundmx.intake.known_good import KnownGood
from inboundmx.intake.turning_away import TurningAway
from inboundmx.model.reply import Reply
from inboundmx.model.session import Session
from inboundmx.model.settings import SmtpSettings
from inboundmx.policy.limiting import subject
from inboundmx.ports import Unavailable

PATIENT = SmtpSettings(banner_delay=2.0)
DENIED = Reply(554, "5.7.1", "go away", then_close=True)


@pytest.mark.parametrize(
    ("ip", "who"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("", ""),
        ("a socket", ""),
    ],
)
def test_who_is_counted_as_one(ip: str, who: str) -> None:
    assert subject(ip) == who


def gate_with_delay(*checks: Any, session: Session = SESSION) -> Gate:
    return Gate(settings(*checks, smtp=PATIENT), session)


def test_who_sent_good_mail_is_strange_no_more() -> None:
    gate = gate_with_delay()
    assert gate.conversation.arriving() == (None, True, False)
    gate.send(MAIL, ANN)
    assert gate.conversation.arriving() == (None, False, False)
    other = gate.reception.conversation(replace(SESSION, peer_ip="192.0.2.98"))
    assert other.arriving().strange


def test_spam_makes_nobody_known() -> None:
    for weight in (10, 40):
        gate = gate_with_delay(check("pills", "pills", weight))
        gate.send(SPAM, ANN)
        assert gate.conversation.arriving().strange


def test_without_a_delay_nobody_is_remembered() -> None:
    gate = Gate(settings())
    gate.send(MAIL, ANN)
    assert not gate.conversation.arriving().strange and gate.state.puts == 0


def test_a_blacklisted_acquaintance_is_refused() -> None:
    gate = Gate(settings(smtp=PATIENT), lists=lists(blacklist="192.0.2.99"))
    gate.send(MAIL, ANN)
    assert gate.conversation.arriving().refusal is not None


class Known:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.state = FakeStateStore(self.clock)
        self.anew()

    def anew(self) -> None:
        self.them = KnownGood(self.state, self.clock)


def test_an_acquaintance_outlives_the_process_and_ends() -> None:
    known = Known()
    known.them.sent_good_mail("2001:db8::1")
    known.anew()
    assert known.them.knows("2001:db8::2") and not known.them.knows("2001:db8:0:1::1")
    known.clock.advance(known_good.KNOWN_SECONDS)
    assert not known.them.knows("2001:db8::2")


def test_it_is_written_down_once_a_day() -> None:
    known = Known()
    for _ in range(5):
        known.them.sent_good_mail("192.0.2.7")
    assert known.state.puts == 1
    known.clock.advance(known_good.AGAIN_SECONDS)
    known.them.sent_good_mail("192.0.2.7")
    assert known.state.puts == 2


def test_a_store_that_is_away_knows_nobody_and_harms_nobody() -> None:
    known = Known()
    known.state.failure = Unavailable("away")
    assert not known.them.knows("192.0.2.7") and not known.them.knows("a socket")


def test_memory_of_acquaintances_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_good, "REMEMBERED", 10)
    known = Known()
    for number in range(100):
        known.them.sent_good_mail(f"192.0.2.{number}")
    assert len(known.them._written) == 10 and known.them.knows("192.0.2.1")


class Door:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.journal = FakeJournal()
        self.away = TurningAway(self.journal, self.clock)

    def refused(self, who: str, id: str, reply: Reply = DENIED) -> str:
        return self.away.refused(who, id, reply, {"ip": who}).text


def test_a_flood_is_told_of_in_two_lines_and_every_refusal_has_an_id_that_is_known() -> None:
    door = Door()
    said = {door.refused("192.0.2.7", f"id{number:08}") for number in range(500)}
    assert said == {"go away id00000000"}
    assert door.journal.named("refused", "refused_again") == [("refused", "id00000000")]
    door.clock.advance(turning_away.TOGETHER_SECONDS)
    event, id, fields, _ = door.journal.events[-1]
    assert (event, id, fields["times"], fields["within_seconds"]) == ("refused_again", "id00000000", 499, 60)
    assert door.refused("192.0.2.7", "id99999999") == "go away id99999999"


def test_clients_and_reasons_are_told_apart() -> None:
    door = Door()
    assert door.refused("192.0.2.7", "one") == "go away one"
    assert door.refused("192.0.2.8", "two") == "go away two"
    assert door.refused("192.0.2.7", "three", replace(DENIED, text="later")) == "later three"
    door.clock.advance(10_000)
    assert door.journal.named("refused_again") == []


def test_a_flood_from_everywhere_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turning_away, "MOST_CLIENTS", 10)
    door = Door()
    door.refused("first", "id1")
    door.refused("first", "id2")
    for number in range(1000):
        door.refused(f"192.0.2.{number}", f"id{number}")
    assert len(door.away._seen) == 10
    assert door.journal.named("refused_again") == [("refused_again", "id1")]


def test_what_was_counted_is_told_at_the_end() -> None:
    door = Door()
    door.refused("192.0.2.7", "one")
    door.refused("192.0.2.7", "two")
    door.away.close()
    assert door.journal.named("refused_again") == [("refused_again", "one")]
