"""What ``inboundmx check`` says of lists in DNS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fakes.checks import FakeClock
from fakes.resolver import FakeResolver
from fakes.services import Outcome

from inboundmx.app.calling_lists import ListCall, probe_lists
from inboundmx.app.settings import load
from inboundmx.ports import Unavailable

INI = """
[check good]
use = dnsbl
zone = good.test
[check words]
use = dnsbl
zone = good.test
codes = 127.0.0.2=bad
[check world]
use = dnsbl
zone = world.test
[check denies]
use = dnsbl
zone = denies.test
[check gone]
use = dnsbl
zone = gone.test
[check links]
use = uribl
zone = names.test
[check subject]
use = headers
header = Subject
value = x
"""
ZONE: Any = {
    "2.0.0.127.good.test": {"A": ["127.0.0.2"]},
    "2.0.0.127.world.test": {"A": ["127.0.0.2"]},
    "1.0.0.127.world.test": {"A": ["127.0.0.2"]},
    "2.0.0.127.denies.test": {"A": ["127.255.255.254"]},
    "2.0.0.127.gone.test": Unavailable("SERVFAIL from 192.0.2.53"),
    "test.names.test": {"A": ["127.0.1.2"]},
    "2.0.0.127.names.test": {"A": ["127.0.1.2"]},
}


def asked(folder: Path, ini: str, clock: FakeClock, *, holding: bool = False) -> Outcome:
    (folder / "in.ini").write_text(ini)
    return Outcome(probe_lists(load(str(folder / "in.ini")), FakeResolver(ZONE, holding=holding), clock))


def test_each_list_is_probed(tmp_path: Path) -> None:
    clock = FakeClock()
    assert asked(tmp_path, INI, clock).value == [
        ListCall("good", "good.test", True, "answers"),
        ListCall("words", "good.test", True, "answers"),
        ListCall("world", "world.test", False, "suspended: world.test lists everything, even 127.0.0.1"),
        ListCall("denies", "denies.test", False, "suspended: denies.test does not answer us: 127.255.255.254"),
        ListCall("gone", "gone.test", False, "suspended: SERVFAIL from 192.0.2.53"),
        ListCall("links", "names.test", True, "answers"),
    ]
    assert clock.task.getDelayedCalls() == []


def test_one_that_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    clock = FakeClock()
    outcome = asked(tmp_path, INI.partition("[check words]")[0], clock, holding=True)
    clock.task.advance(9.9)
    assert not outcome.done
    clock.task.advance(0.2)
    assert outcome.value == [ListCall("good", "good.test", False, "no answer within 10 s")]
    assert clock.task.getDelayedCalls() == []


def test_no_list_no_question(tmp_path: Path) -> None:
    assert asked(tmp_path, "[check early]\nuse = early_talker\n", FakeClock()).value == []
