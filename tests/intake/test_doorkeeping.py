"""What follows when clients do something too often: [abuse NAME], session by session."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from fakes.disk import result
from fakes.lists import lists
from gate import ANN, BOB, EVE, MAIL, SESSION, Gate, settings

from inboundmx.intake import alerting
from inboundmx.intake.doorkeeping import Doorkeeper
from inboundmx.model.address import Address
from inboundmx.model.envelope import Envelope
from inboundmx.model.reply import Reply
from inboundmx.model.session import Session
from inboundmx.model.settings import AbuseSettings, RelaySettings
from inboundmx.policy.listing import NOBODY
from inboundmx.ports import Unavailable

STRANGER = Address("who", "elsewhere.example")
OPS = "ops@a.example"


def rule(use: str, limit: int = 3, block: float = 3600.0, notify: str = "", **more: Any) -> AbuseSettings:
    return AbuseSettings(more.pop("name", use), use, 600.0, limit, block, notify, **more)


class Visits:
    """Sessions one after the other. ``allow``: networks that may send out through us."""

    def __init__(self, *rules: AbuseSettings, allow: str = "", white: str = "") -> None:
        relay = RelaySettings((ip_network(allow),) if allow else ())
        given = lists(whitelist_smtp=white) if white else NOBODY
        self.gate = Gate(settings(abuse=rules, relay=relay), lists=given)
        self.journal = self.gate.journal

    def come(self, ip: str = "192.0.2.99", user: str = "") -> Any:
        """A new session, its greeting or refusal heard."""
        session = replace(SESSION, peer_ip=ip)
        self.gate.conversation = self.gate.reception.conversation(session)
        refusal = self.gate.conversation.arriving().refusal
        if user:
            self.gate.ask(self.gate.conversation.hello(replace(session, authenticated_as=user)))
        return refusal

    def leave(self) -> None:
        self.gate.conversation.closed("quit")

    def code(self, ip: str = "192.0.2.99", user: str = "") -> int:
        refusal = self.come(ip, user)
        self.leave()
        return 220 if refusal is None else refusal.code

    def tries(self, *recipients: Address) -> list[int]:
        """The codes of MAIL and RCPTs."""
        conversation = self.gate.conversation
        codes = [self.gate.ask(conversation.mail(Envelope(None))).code]
        return codes + [self.gate.ask(conversation.recipient(each)).code for each in recipients]

    def wait(self, seconds: float) -> None:
        self.gate.clock.at += seconds

    def blocked(self) -> list[str]:
        return [fields["ip"] for event, _, fields in self.journal.events if event == "blocked"]


def test_one_connection_too_many_is_refused_and_so_are_those_that_follow() -> None:
    visits = Visits(rule("connections"))
    assert [visits.code() for _ in range(5)] == [220, 220, 220, 421, 421]
    assert visits.code("192.0.2.98") == 220, "others go on"
    assert visits.blocked() == ["192.0.2.99"]
    refusal = visits.come()
    assert str(refusal).startswith("421 4.7.0 your address is blocked for a while ")
    _, id, fields = next(each for each in visits.journal.events if each[0] == "refused")
    assert refusal.text.endswith(id) and fields["verb"] == "connect"
    assert fields["block"] == "192.0.2.99 (4 connections within 10 minutes, by rule connections)"
    assert fields["until_at"] == visits.gate.clock.now() + 3600


def test_a_block_ends_by_itself() -> None:
    visits = Visits(rule("connections"))
    assert [visits.code() for _ in range(4)][-1] == 421
    visits.wait(3599)
    assert visits.code() == 421, "to be refused does not make it longer"
    visits.wait(1)
    assert [visits.code() for _ in range(4)] == [220, 220, 220, 421]


def test_connections_are_counted_in_a_window() -> None:
    visits = Visits(rule("connections"))
    for _ in range(5):
        assert [visits.code() for _ in range(3)] == [220] * 3
        visits.wait(600)


def test_a_customer_of_ipv6_is_one_client() -> None:
    visits = Visits(rule("connections"))
    assert [visits.code(f"2001:db8:1:1::{number}") for number in range(1, 6)] == [220, 220, 220, 421, 421]
    assert visits.code("2001:db8:1:2::1") == 220
    assert visits.blocked() == ["2001:db8:1:1::/64"]


def test_who_is_whitelisted_or_sends_out_through_us_is_not_counted() -> None:
    for more in ({"white": "192.0.2.99"}, {"allow": "192.0.2.99/32"}):
        visits = Visits(rule("connections"), **more)
        assert [visits.code() for _ in range(9)] == [220] * 9


def test_who_authenticates_is_not_counted() -> None:
    visits = Visits(rule("connections"))
    assert [visits.code(user="ann") for _ in range(9)] == [220] * 9


def test_who_speaks_for_others_is_not_counted_for_them() -> None:
    visits = Visits(rule("connections"))
    for number in range(9):
        assert visits.come() is None
        visits.gate.conversation.closed("renamed")
        assert visits.code(f"198.51.100.{number}") == 220


def test_peers_without_an_address_are_many() -> None:
    visits = Visits(rule("connections"))
    assert [visits.code("") for _ in range(9)] == [220] * 9


def test_several_rules_of_one_kind_count_apart() -> None:
    visits = Visits(rule("connections", 100), rule("connections", 2, name="strict"))
    assert [visits.code() for _ in range(3)] == [220, 220, 421]
    assert "by rule strict" in visits.journal.events[-1][2]["block"]


def harvest(visits: Visits, *recipients: Address) -> None:
    visits.come()
    visits.tries(*recipients)
    visits.leave()


def test_sessions_that_only_try_recipients_are_bad() -> None:
    visits = Visits(rule("bad-sessions"))
    for _ in range(3):
        assert visits.code() == 220
        harvest(visits, STRANGER, ANN)
    assert visits.code() == 421
    assert visits.blocked() == ["192.0.2.99"]


def test_what_is_no_bad_session() -> None:
    visits = Visits(rule("bad-sessions", 1))
    harvest(visits, ANN)
    harvest(visits)
    visits.come()
    visits.tries(STRANGER, ANN)
    visits.gate.conversation.draft()
    visits.gate.ask(visits.gate.conversation.content(letter()))
    visits.leave()
    assert visits.code() == 220


def letter() -> Any:
    from gate import body

    return body(MAIL)


def put_off(visits: Visits, recipients: int) -> None:
    """As a greylist does."""
    for _ in range(recipients):
        visits.gate.conversation._refuse("rcpt", Reply(451, "4.7.1", "greylisted"))


def test_who_is_put_off_is_expected_again() -> None:
    visits = Visits(rule("bad-sessions", 1), rule("bad-recipients", 4))
    visits.come()
    visits.tries(STRANGER)
    put_off(visits, 60)
    visits.leave()
    assert visits.code() == 220
    visits.come()
    visits.tries(STRANGER, STRANGER)
    put_off(visits, 1)
    visits.leave()
    assert visits.code() == 421, "one that was put off excuses no harvest"


def test_refused_recipients_end_in_a_block_that_holds_for_sessions_under_way() -> None:
    visits = Visits(rule("bad-recipients"))
    visits.come()
    other = visits.gate.conversation
    visits.come()
    assert visits.tries(STRANGER, STRANGER, STRANGER, ANN) == [250, 550, 550, 550, 421]
    visits.leave()
    visits.gate.conversation = other
    assert visits.tries() == [421]
    assert visits.code() == 421


def test_a_primary_that_cannot_take_a_message_makes_no_recipient_bad() -> None:
    visits = Visits(rule("bad-recipients", 1))
    visits.come()
    visits.gate.conversation._refuse("rcpt", Reply(552, "5.3.4", "too large there"))
    assert visits.blocked() == []


def test_bad_commands() -> None:
    visits = Visits(rule("bad-commands"))
    visits.come()
    for code in (500, 501, 503, 554, 452, 421):
        visits.gate.conversation.refused("", Reply(code, "", "no"))
        assert (visits.blocked() != []) is (code in (503, 554, 452, 421))


def sends(visits: Visits, content: bytes, ip: str = "192.0.2.99", user: str = "") -> None:
    visits.come(ip, user)
    assert visits.gate.send(content, ANN).code == 250
    visits.leave()


def written(visits: Visits) -> list[Any]:
    return [entry for entry in visits.gate.spool.entries() if entry.notice]


@pytest.mark.parametrize(("allow", "user", "who"), [("192.0.2.0/24", "", "192.0.2.99"), ("", "ann", "ann")])
def test_an_internal_spammer_is_told_of_once_an_hour(allow: str, user: str, who: str) -> None:
    visits = Visits(rule("same-size", 3, 0.0, OPS), allow=allow)
    for number in range(9):
        sends(visits, MAIL + b"x" * (number % 3), user=user)
    events = [(fields["who"], fields["reason"]) for event, _, fields in visits.journal.events if event == "abuse"]
    sizes = [len(MAIL) + more for more in range(3)]
    assert events == [(who, f"3 messages of the same size within 10 minutes, {size} octets") for size in sizes]
    [notice] = written(visits)
    assert [str(each.address) for each in notice.recipients] == [OPS] and notice.sender is None
    assert notice in visits.gate.deliveries.entries
    visits.wait(3600)
    for _ in range(3):
        sends(visits, MAIL, user=user)
    assert len(written(visits)) == 2 and visits.blocked() == []


def test_strangers_are_no_internal_spammers() -> None:
    visits = Visits(rule("same-size", 1, 0.0, OPS))
    sends(visits, MAIL)
    assert written(visits) == []


def test_a_rule_may_block_and_tell() -> None:
    visits = Visits(rule("connections", 1, 3600.0, "eve@elsewhere.example"))
    visits.code()
    assert visits.code() == 421
    [notice] = written(visits)
    assert (notice.domain, notice.via) == ("elsewhere.example", "outbound")


def test_letters_about_one_rule_are_few() -> None:
    visits = Visits(rule("connections", 1, 60.0, OPS))
    for number in range(100):
        assert [visits.code(f"198.51.100.{number}") for _ in range(2)] == [220, 421]
    assert len(written(visits)) == alerting.MOST_AN_HOUR
    assert sum(event == "abuse" for event, _, _ in visits.journal.events) == 100


def test_a_letter_that_cannot_be_kept_costs_no_session() -> None:
    visits = Visits(rule("connections", 1, 60.0, OPS))
    visits.gate.spool.failure = Unavailable("no disk")
    visits.code()
    assert visits.code() == 421
    assert any(event == "alert_lost" for event, _, _ in visits.journal.events)


def test_without_the_store_rules_hold_in_this_process_and_mail_goes_on() -> None:
    visits = Visits(rule("connections", 3, 60.0, OPS), rule("bad-recipients", 3))
    visits.gate.state.failure = Unavailable("full")
    sends(visits, MAIL)
    assert [visits.code() for _ in range(3)] == [220, 220, 421]
    assert written(visits) == []


def test_without_rules_nothing_is_counted() -> None:
    visits = Visits()
    for _ in range(300):
        harvest(visits, STRANGER, BOB, EVE)
    assert visits.code() == 220 and visits.gate.state.puts == 0 and visits.gate.door._tallies == {}


def test_an_address_that_relays_can_be_blocked_by_an_operator() -> None:
    visits = Visits(allow="192.0.2.99/32")
    visits.gate.blocks.begin("192.0.2.99", 60, "why not", "ann")
    assert visits.code() == 421


def test_what_was_counted_about_a_client_is_forgotten_and_of_no_other() -> None:
    visits = Visits(rule("connections", 40), rule("bad-recipients", 20))
    for ip in ("198.51.100.8", "198.51.100.80"):
        assert [visits.code(ip) for _ in range(40)] == [220] * 40
    told = result(visits.gate.door.forget(["198.51.100.8"]))
    assert told == 1
    assert [visits.code("198.51.100.8") for _ in range(41)] == [220] * 40 + [421]
    assert visits.code("198.51.100.80") == 421
    abuse = [fields["who"] for event, _, fields in visits.journal.events if event == "abuse"]
    assert abuse == ["198.51.100.8", "198.51.100.80"]
    visits.gate.blocks.forget(["198.51.100.8"])
    result(visits.gate.door.forget(["198.51.100.8"]))
    # A process that has counted nothing yet sees what all share.
    nobody: Any = None
    other = Doorkeeper(visits.gate.state, visits.gate.blocks, nobody, visits.journal, visits.gate.clock)
    rules = visits.gate.settings.abuse
    assert other.count(rules[:1], "198.51.100.8", visits.gate.settings, 2.0) is None
    assert other.count(rules[:1], "198.51.100.80", visits.gate.settings, 2.0) is not None


def test_without_the_store_it_is_forgotten_here() -> None:
    visits = Visits(rule("connections"))
    visits.gate.state.failure = Unavailable("full")
    assert [visits.code() for _ in range(3)] == [220] * 3
    assert isinstance(result(visits.gate.door.forget(["192.0.2.99"])), Unavailable)
    assert visits.code() == 220


def test_who_is_blocked_or_blacklisted_is_unwelcome_before_it_is_counted() -> None:
    gate = Gate(settings(abuse=(rule("connections", 1),)), lists=lists(blacklist="192.0.2.98"))
    for _ in range(5):
        assert gate.reception.unwelcome(SESSION) is None
    assert gate.state.puts == 0 and gate.door._tallies == {}
    refusal = gate.reception.unwelcome(replace(SESSION, peer_ip="192.0.2.98"))
    assert refusal is not None and refusal.code == 554
    gate.blocks.begin(SESSION.peer_ip, 60, "too much", "rule connections")
    refusal = gate.reception.unwelcome(SESSION)
    assert refusal is not None and refusal.code == 421
    assert [fields["reply"] for event, _, fields in gate.journal.events if event == "refused"] == [
        "554 5.7.1 your address is on the blacklist here", "421 4.7.0 your address is blocked for a while"
    ]  # fmt: skip


def test_a_blacklisted_client_hears_that_first() -> None:
    gate = Gate(settings(abuse=(rule("connections", 1),)), lists=lists(blacklist="192.0.2.99"))
    for _ in range(5):
        session: Session = SESSION
        assert gate.reception.conversation(session).arriving().refusal.code == 554  # type: ignore[union-attr]
