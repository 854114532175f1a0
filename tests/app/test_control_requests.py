"""Whatever is asked over the control socket: each line has one answer, which ends, and nothing but that is said."""

from __future__ import annotations

import json
from typing import Any

from fakes.clock import FakeClock
from fakes.journal import FakeJournal
from fakes.services import body
from fakes.spool import FakeSpool
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from inboundmx.app.control import ControlFactory
from inboundmx.app.operations import Operations
from inboundmx.model.address import Address
from inboundmx.model.custody import Change, Content, Deposit, SpoolEntry, SpoolRecipient
from inboundmx.model.settings import Settings

ENTRY = SpoolEntry("1d", "1d", "1d", 1.0, None, (SpoolRecipient(Address("ann", "a.example")),), 3, "a.example")
VERBS = ("list", "show", "release", "delete", "force", "reset-retries", "hold", "bounce", "priority", "no-such", "")
ARGUMENTS = ("ids", "domain", "recipient", "sender", "state", "older", "since", "cause", "dry_run", "limit", "columns",
             "priority", "exact", "odd\nname")  # fmt: skip
words = st.sampled_from(["1d", "a.example", "*@a.example", "<>", "active", "", "é.example", "\0", "x" * 300])
values = st.one_of(
    words, st.integers(), st.floats(), st.booleans(), st.none(), st.lists(words, max_size=3), st.just({"a": []})
)
operations = st.one_of(
    st.builds("{}.{}".format, st.sampled_from(["spool", "quarantine", "other"]), st.sampled_from(VERBS)),
    st.sampled_from(["status", "", "spool", "."]),
    values,
)
asked = st.one_of(
    st.fixed_dictionaries(
        {"operation": operations, "arguments": st.dictionaries(st.sampled_from(ARGUMENTS), values, max_size=4)},
        optional={"on_behalf_of": values},
    ).map(json.dumps),
    values.map(json.dumps),
    st.text(st.sampled_from('{}[]",: x'), max_size=20),
)


@given(st.lists(asked, min_size=1, max_size=4))
@settings(max_examples=120, deadline=None)
def test_each_request_has_one_answer(requests: list[str]) -> None:
    spool, clock, journal = FakeSpool(), Clock(), FakeJournal()
    spool.commit(Change(add=(Deposit(ENTRY, Content(b"", 0, body(b"x\r\n"))),)))
    factory = ControlFactory(Operations(spool, None, journal, FakeClock(), Settings()), clock)  # type: ignore[arg-type]
    connection: Any = factory.buildProtocol(None)
    transport = StringTransport()
    connection.makeConnection(transport)
    for request in requests:
        connection.dataReceived(request.encode() + b"\n")
        while transport.producer is not None:
            # Where there was nothing to write it goes on by itself.
            if clock.getDelayedCalls():
                clock.advance(0)
            else:
                transport.producer.resumeProducing()
    answers = transport.value().decode("ascii").split("\n")
    assert answers.pop() == ""
    ends = [answer for answer in map(json.loads, answers) if "row" not in answer]
    assert len(ends) == len(requests)
    assert all(end == {"end": True} or set(end) == {"error", "usage"} for end in ends)
    assert not [end for end in ends if end.get("error", "").startswith("the gateway failed")]
    connection.connectionLost(Failure(ConnectionDone()))
    assert clock.getDelayedCalls() == []
