"""How often somebody may try to authenticate, what he hears, and what is written down of it."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from fakes.lists import lists
from gate import ANN, MAIL, SENDER, SESSION, Gate, settings
from twisted.internet.defer import Deferred, fail, succeed

from inboundmx.intake.authentication import (
    LONGEST_SECONDS,
    MOST_OF_ADDRESS,
    MOST_OF_NAME,
    Gatekeeper,
    mechanisms,
)
from inboundmx.model.address import Address
from inboundmx.model.envelope import Envelope
from inboundmx.model.reply import Reply
from inboundmx.model.settings import SubmissionSettings
from inboundmx.policy.authenticating import FEWEST, Users, made
from inboundmx.ports import Unavailable

KEYS = {"ann": made("pencil", b"s" * 16, FEWEST)}
RIGHT, WRONG, NOBODY_S = b"\0ann\0pencil", b"\0ann\0x", b"\0nobody\0x"
HERE = replace(SESSION, submission=True, tls="TLSv1.3 X")
ABROAD = Address("someone", "abroad.example")


class TheUsers:
    """Asked at once, with work that is quick."""

    failure: Exception | None = None

    def ask(self, work: Callable[[Users], Any]) -> Deferred[Any]:
        try:
            return fail(self.failure) if self.failure else succeed(work(Users(KEYS)))
        except Exception as error:
            return fail(error)


class Waits:
    """A clock whose waits are written down, and over at once."""

    def __init__(self, clock: Any) -> None:
        self.seconds: list[float] = []
        self.now = clock.now

    def call_later(self, seconds: float, call: Any, *arguments: Any) -> Any:
        self.seconds.append(seconds)
        call(*arguments)
        return self

    def cancel(self) -> None:
        pass


class Door:
    """A submission listener; ``say`` begins PLAIN with an initial response, of a connection of its own each time."""

    def __init__(self, session: Any = HERE, given: Any = None, **listed: str) -> None:
        self.gate = Gate(given or settings(), session, lists(**listed))
        self.users = TheUsers()
        self.waits = Waits(self.gate.clock)
        keeper = Gatekeeper(self.users, self.gate.state, self.gate.journal, self.waits)  # type: ignore[arg-type]
        self.gate.reception.gatekeeper = keeper

    def say(self, said: bytes | None, session: Any = HERE, mechanism: str = "PLAIN") -> Reply:
        self.gate.conversation = self.gate.reception.conversation(session)
        answer: Reply = self.gate.ask(self.gate.conversation.authenticate(mechanism, said))
        return answer

    @property
    def told(self) -> dict[str, Any]:
        event, id, fields = self.gate.journal.events[-1]
        return {"event": event, "id": id, **fields}


def test_who_has_authenticated_sends_anywhere_and_nobody_else_anything() -> None:
    door = Door()
    assert str(door.gate.ask(door.gate.conversation.mail(Envelope(SENDER)))).startswith("530 5.7.0 ")
    assert door.say(RIGHT).code == 235
    assert (door.told["event"], door.told["user"]) == ("authenticated", "ann")
    # A new EHLO does not forget it.
    assert door.gate.ask(door.gate.conversation.hello(HERE)).code == 250
    assert door.gate.send(MAIL, ANN).code == 250
    door.gate.conversation.reset()
    assert door.gate.ask(door.gate.conversation.mail(Envelope(SENDER))).code == 250
    assert door.gate.ask(door.gate.conversation.recipient(ABROAD)).code == 250
    assert b"with ESMTPSA" in door.gate.courier.parcels[0].content.prefix


def test_each_failure_is_told_alike_and_written_down() -> None:
    door = Door()
    answers = [door.say(said) for said in (WRONG, NOBODY_S)]
    assert {str(answer) for answer in answers} == {f"535 5.7.8 Name or password is wrong {HERE.id}"}
    assert (door.told["event"], door.told["user"], door.told["ip"]) == (
        "authentication_failed", "nobody", HERE.peer_ip
    )  # fmt: skip
    assert "x" not in (door.told["user"], door.told.get("password"))


def test_each_failure_is_answered_later_than_the_one_before_and_then_not_at_all() -> None:
    door = Door()
    for _ in range(MOST_OF_ADDRESS):
        assert door.say(NOBODY_S).code == 535
    assert door.waits.seconds[:5] == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert max(door.waits.seconds) == LONGEST_SECONDS
    refused = door.say(RIGHT)
    assert (refused.code, refused.enhanced, refused.then_close) == (421, "4.7.0", True)
    assert door.say(RIGHT, replace(HERE, peer_ip="192.0.2.7")).code == 235


def test_a_user_whom_many_try_is_let_in_from_where_he_is_known() -> None:
    door = Door()
    assert door.say(RIGHT).code == 235
    for number in range(MOST_OF_NAME):
        assert door.say(WRONG, replace(HERE, peer_ip=f"198.51.100.{number}")).code == 535
    stranger = replace(HERE, peer_ip="203.0.113.9")
    for said in (RIGHT, WRONG):
        assert str(door.say(said, stranger)).startswith("454 4.7.0 ")
    assert door.say(RIGHT).code == 235


@pytest.mark.parametrize("where", ["users", "state"])
def test_what_cannot_be_asked_is_no_wrong_password(where: str) -> None:
    door = Door()
    (door.users if where == "users" else door.gate.state).failure = Unavailable("not now")
    assert str(door.say(RIGHT)).startswith("454 4.7.0 ")
    assert door.told["trouble"] == "not now"


def test_a_failure_that_cannot_be_counted_is_late_and_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door()

    def add(*_: object) -> float:
        raise Unavailable("no room")

    monkeypatch.setattr(door.gate.state, "add", add)
    refused = door.say(WRONG)
    assert (refused.code, refused.then_close) == (421, True)
    assert door.waits.seconds == [LONGEST_SECONDS]
    assert door.told["trouble"] == "no room"
    assert door.say(RIGHT).code == 235


def test_a_step_that_is_none_counts_for_nothing() -> None:
    door = Door()
    assert door.say(b"ann").code == 501
    assert door.waits.seconds == []


def test_a_challenge_is_answered_on_the_same_connection() -> None:
    door = Door()
    challenge = door.say(None, mechanism="LOGIN")
    assert (challenge.code, b64decode(challenge.text)) == (334, b"Username:")
    conversation = door.gate.conversation
    assert door.gate.ask(conversation.authenticate("", b"ann")).text == b64encode(b"Password:").decode()
    assert door.gate.ask(conversation.authenticate("", b"pencil")).code == 235


def test_clients_that_need_no_name_are_named_by_the_operator() -> None:
    given = settings(submission=SubmissionSettings(auth_bypass=(ip_network(f"{HERE.peer_ip}/32"),)))
    for session, codes in ((HERE, [250, 250]), (SESSION, [250, 550])):
        gate = Door(session, given).gate
        said = [gate.ask(gate.conversation.mail(Envelope(SENDER)))]
        said.append(gate.ask(gate.conversation.recipient(ABROAD)))
        assert [reply.code for reply in said] == codes


def test_no_received_field_stands_for_a_name() -> None:
    """A gateway whose word about the client is taken is not, for that, one that need not say who it is."""
    given = settings(submission=SubmissionSettings(auth_bypass=(ip_network("203.0.113.0/24"),)))
    door = Door(HERE, given, bypass_gateways=HERE.peer_ip)
    assert door.gate.ask(door.gate.conversation.mail(Envelope(SENDER))).code == 530


def test_login_need_not_be_offered() -> None:
    assert mechanisms(True) == ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    assert mechanisms(False) == ("SCRAM-SHA-256", "PLAIN")
