"""Who did not wait for the greeting is told apart, whatever else was said."""

from __future__ import annotations

import pytest

from inboundmx.checks.api import Case
from inboundmx.checks.early_talker import EarlyTalker
from inboundmx.model.envelope import Envelope
from inboundmx.model.session import Session


@pytest.mark.parametrize(("early", "outcome"), [(True, "yes"), (False, "no")])
def test_early(early: bool, outcome: str) -> None:
    case = Case(Session("session1234", "192.0.2.1", 1, "192.0.2.2", 0.0, early=early), Envelope(None))
    with pytest.raises(StopIteration) as found:
        EarlyTalker({}).examine(case).send(None)
    assert found.value.value.outcome == outcome
