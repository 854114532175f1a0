"""Lists in DNS that are not to be believed: how that shows, who waits for it, and how they come back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from fakes.checks import FakeClock
from fakes.resolver import FakeResolver, Zone
from fakes.services import Outcome

from inboundmx.checks import zones as module
from inboundmx.checks.zones import (
    ADDRESSES,
    DOUBTED_SECONDS,
    FAILED_SECONDS,
    FAILURES,
    NAMES,
    PASSED_SECONDS,
    SILENT_LONGEST,
    SILENT_SECONDS,
    Probe,
    Zones,
    point,
)
from inboundmx.model.ip import ip_of
from inboundmx.ports import Unavailable

LISTED, OTHER, ABSENT = "1.2.0.192", "2.2.0.192", "99.2.0.192"
MAPPED = "2.0.0.0.0.0.f.7.f.f.f.f" + ".0" * 20
SILENCE = Unavailable("no answer in time")
WELL: Zone = {
    "2.0.0.127.bl.test": {"A": ["127.0.0.2"]},
    f"{LISTED}.bl.test": {"A": ["127.0.0.2"]},
    f"{OTHER}.bl.test": {"A": ["127.0.0.4"]},
}
WORLD = {**WELL, "1.0.0.127.bl.test": {"A": ["127.0.0.2"]}, f"{ABSENT}.bl.test": {"A": ["127.0.0.2"]}}
REFUSES = {**WELL, "2.0.0.127.bl.test": {"A": ["127.255.255.254"]}}
DEAD = dict.fromkeys((*WORLD, f"{ABSENT}.bl.test"), SILENCE)
IGNORED = (module.ip_network("127.255.255.0/24"),)


def address(text: str) -> Any:
    found = ip_of(text)
    assert found is not None
    return found


class Watched:
    """A list and whoever asks it."""

    def __init__(
        self, zone: Mapping[str, Any] = WELL, *, holding: bool = False, own: Any = (), our: bool = False, **more: Any
    ) -> None:
        self.resolver = FakeResolver(zone, holding=holding)
        self.clock = FakeClock()
        self.notes: list[tuple[bool, str]] = []
        self.zones = Zones(self.resolver, self.clock, self, lambda: own)
        self.probe = Probe("bl.test", **{"tests": ADDRESSES, "ignore": IGNORED, "own": our, **more})
        self.zones.keep([self.probe])
        self.zone = self.zones.zone(self.probe)

    def noted(self, service: str, well: bool, detail: str) -> None:
        assert service == "bl.test"
        if self.notes[-1:] != [(well, detail)]:
            self.notes.append((well, detail))

    def ask(self, labels: str = LISTED, seconds: float = 4.0) -> Outcome:
        return Outcome(self.zone.codes(labels, seconds))

    def says(self, labels: str = LISTED) -> str:
        """``listed``, ``absent``, or why it says nothing."""
        asked = self.ask(labels)
        assert asked.done
        return asked.unavailable if asked.error else "listed" if asked.value else "absent"

    def becomes(self, zone: Mapping[str, Any]) -> None:
        self.resolver.zone.clear()
        self.resolver.zone.update(zone)

    def passes(self, seconds: float) -> None:
        self.clock.task.advance(seconds)


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        (WORLD, "lists everything, even 127.0.0.1"),
        ({f"{MAPPED}.bl.test": {"A": ["127.0.0.2"]}, f"1{MAPPED[1:]}.bl.test": {"A": ["127.0.0.2"]}}, "::ffff:7f00:1"),
        ({"x.bl.test": {"A": ["127.0.0.2"]}}, "lists nothing, not even 127.0.0.2"),
        ({}, "lists nothing, not even 127.0.0.2"),
        (REFUSES, "does not answer us: 127.255.255.254"),
        ({"2.0.0.127.bl.test": {"A": ["203.0.113.7"]}}, "no code of a list"),
        (DEAD, "no answer in time"),
        ({**WELL, "1.0.0.127.bl.test": Unavailable("REFUSED")}, "REFUSED"),
    ],
)
def test_a_list_that_fails_its_test_is_suspended_from_the_start(zone: Mapping[str, Any], said: str) -> None:
    watched = Watched(zone)
    watched.resolver.asked.clear()
    for labels in (LISTED, ABSENT, LISTED):
        heard = watched.says(labels)
        assert heard.startswith("suspended: ") and said in heard.replace("::ffff:127.0.0.1", "::ffff:7f00:1")
    # Nobody asks it in vain, and it is told once.
    assert watched.resolver.asked == []
    assert [well for well, _ in watched.notes] == [False]
    assert watched.notes[0][1].startswith("suspended: ")


def test_a_list_that_passes_is_believed() -> None:
    watched = Watched()
    assert (watched.says(LISTED), watched.says(ABSENT)) == ("listed", "absent")
    assert watched.notes == [(True, "answers")]


def test_a_list_of_ipv6_addresses_alone_is_believed() -> None:
    """RFC 5782 5: such a list names ::FFFF:7F00:2."""
    assert Watched({f"{MAPPED}.bl.test": {"A": ["127.0.0.2"]}}).says(ABSENT) == "absent"


@pytest.mark.parametrize(
    ("names", "believed"),
    [(["test", "bad.example"], True), (["bad.example"], False), (["test", "invalid", "bad.example"], False)],
)
def test_a_list_of_names(names: list[str], believed: bool) -> None:
    watched = Watched({f"{name}.bl.test": {"A": ["127.0.0.2"]} for name in names}, tests=NAMES)
    assert (watched.says("bad.example") == "listed") is believed


def test_a_list_without_test_points_need_only_answer() -> None:
    assert Watched({f"{LISTED}.bl.test": {"A": ["127.0.0.2"]}}, tests=()).says(LISTED) == "listed"
    assert Watched(DEAD, tests=()).says(LISTED) == "suspended: no answer in time"


def test_what_is_known_to_be_clean_is_not_listed() -> None:
    watched = Watched(clean=(point(address("192.0.2.99")), point(address("192.0.2.2"))))
    assert watched.says(LISTED) == "suspended: bl.test lists 192.0.2.2, which is known to be clean"
    assert Watched(clean=(point(address("192.0.2.99")),)).says(LISTED) == "listed"


def test_that_it_names_us_is_told_and_believed() -> None:
    """A policy list, or one of good senders, may be right."""
    named = Watched(our=True, own=("192.0.2.1", "192.0.2.99", "10.0.0.1", "not an address"))
    assert named.says(LISTED) == "listed"
    assert named.notes == [(True, "names our own address 192.0.2.1")]
    assert "1.0.0.10.bl.test" not in [name for name, _ in named.resolver.asked]
    nobody = Watched({**WELL, f"{ABSENT}.bl.test": SILENCE}, our=True, own=("192.0.2.99",))
    assert nobody.says(LISTED) == "listed"


# --- who waits --------------------------------------------------------------------------------------------------------


def test_at_the_start_nobody_waits_but_who_is_listed() -> None:
    """What a list names before it was tested is said once it was; it takes as long as the test does."""
    watched = Watched(holding=True)
    watched.resolver.holding = False
    assert watched.says(ABSENT) == "absent"
    listed, gone = watched.ask(LISTED), watched.ask(OTHER)
    assert not listed.done
    gone.deferred.cancel()
    watched.resolver.release()
    assert [str(code) for code in listed.value] == ["127.0.0.2"]
    world = Watched(WORLD, holding=True)
    world.resolver.holding = False
    listed = world.ask(LISTED)
    world.resolver.release()
    assert "lists everything" in listed.unavailable


def test_while_a_list_is_probed_again_nobody_waits() -> None:
    watched = Watched()
    watched.resolver.holding = True
    watched.passes(PASSED_SECONDS)
    watched.resolver.holding = False
    assert watched.says(LISTED) == "listed"


def test_a_list_that_falls_silent_is_asked_no_more_after_five_questions() -> None:
    watched = Watched()
    watched.becomes(DEAD)
    assert {watched.says(LISTED) for _ in range(FAILURES)} == {"no answer in time"}
    asked = len(watched.resolver.asked)
    assert watched.says(LISTED) == "suspended: 5 times in a row: no answer in time"
    assert len(watched.resolver.asked) == asked
    assert [well for well, _ in watched.notes] == [True, False]
    # A probe now and then, whoever asks; less and less often, but for a minute at most.
    for probes, wait in enumerate((SILENT_SECONDS, SILENT_SECONDS, 10, 20, 40, 60, 60), 1):
        watched.passes(wait - 0.1)
        assert "suspended" in watched.says(ABSENT)
        watched.passes(0.1)
        assert len(watched.resolver.asked) == asked + probes
    watched.becomes(WELL)
    watched.passes(SILENT_LONGEST)
    assert watched.says(LISTED) == "listed"
    assert [well for well, _ in watched.notes][-1] is True


@pytest.mark.parametrize(("seconds", "suspended"), [(4.0, True), (1.0, False)])
def test_checks_whose_time_is_over_count_and_those_that_were_given_up_do_not(seconds: float, suspended: bool) -> None:
    watched = Watched()
    watched.resolver.holding = True
    asked = [watched.ask(LISTED, 4.0) for _ in range(FAILURES)]
    watched.passes(seconds)
    for each in asked:
        each.deferred.cancel()
    assert watched.zone.believed is not suspended


def test_failures_that_do_not_follow_one_another_do_not_add_up() -> None:
    watched = Watched({**WELL, f"{OTHER}.bl.test": SILENCE})
    for _ in range(3):
        for _ in range(FAILURES - 1):
            assert watched.says(OTHER) == "no answer in time"
        assert watched.says(LISTED) == "listed"


# --- and comes back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("zone", "rest"), [(WORLD, FAILED_SECONDS), (REFUSES, FAILED_SECONDS), (DEAD, SILENT_SECONDS)])
def test_it_is_probed_every_hour_and_comes_back_by_itself(zone: Mapping[str, Any], rest: float) -> None:
    watched = Watched()
    watched.becomes(zone)
    watched.passes(PASSED_SECONDS - 1)
    assert watched.zone.believed
    watched.passes(1)
    assert watched.says(LISTED).startswith("suspended: ")
    watched.becomes(WELL)
    watched.passes(rest - 1)
    assert watched.says(LISTED).startswith("suspended: ")
    watched.passes(1)
    assert watched.says(LISTED) == "listed"
    assert [well for well, _ in watched.notes] == [True, False, True]


def test_odd_answers_bring_a_probe_but_not_one_each() -> None:
    watched = Watched({**WELL, f"{OTHER}.bl.test": {"A": ["127.255.255.254"]}})
    for _ in range(2):
        watched.passes(DOUBTED_SECONDS)
        watched.resolver.asked.clear()
        for _ in range(FAILURES - 1):
            assert watched.says(OTHER) == "bl.test does not answer us: 127.255.255.254"
            assert watched.says(LISTED) == "listed"
        names = [name for name, _ in watched.resolver.asked]
        assert names.count("2.0.0.127.bl.test") == 1
    watched.becomes(REFUSES)
    watched.passes(DOUBTED_SECONDS)
    watched.becomes({**REFUSES, f"{OTHER}.bl.test": {"A": ["127.255.255.254"]}})
    watched.says(OTHER)
    assert watched.says(LISTED).startswith("suspended: ")


def test_new_settings_probe_what_is_suspended_and_forget_what_is_not_asked() -> None:
    watched = Watched(WORLD)
    watched.becomes(WELL)
    watched.zones.keep([watched.probe])
    assert watched.says(LISTED) == "listed"
    assert watched.zones.zone(watched.probe) is watched.zone
    watched.resolver.asked.clear()
    watched.zones.keep([watched.probe])
    assert watched.resolver.asked == []
    watched.zones.keep([])
    assert watched.clock.task.getDelayedCalls() == []
    # A session that began before goes on asking.
    assert watched.says(LISTED) == "listed"


def test_stopped_in_the_middle_of_a_probe() -> None:
    watched = Watched(holding=True)
    watched.resolver.holding = False
    listed = watched.ask(LISTED)
    watched.zones.stop()
    watched.resolver.release()
    assert listed.done
    assert watched.clock.task.getDelayedCalls() == []
