"""A file of recipients that changes, goes, is emptied and comes back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fakes.checks import FakeClock, FakeOffload

from inboundmx.model.address import Address
from inboundmx.net.recipient_file import LOOK_SECONDS, RecipientFile
from inboundmx.ports import Unavailable
from inboundmx.prompt import promptly

ANN, BOB = Address("ann", "a.test"), Address("bob", "a.test")


class Desk:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = FakeClock()
        self.offload = FakeOffload()
        self.told: list[tuple[bool, str]] = []
        self.file = RecipientFile(str(path), self.clock, self.offload, self)

    def noted(self, service: str, well: bool, detail: str) -> None:
        self.told.append((well, detail))

    def holds(self, address: Address) -> bool:
        came: list[bool] = []
        promptly(self.file.holds(address), came.append, lambda failure: failure.raiseException())
        return came[0]

    def later(self) -> None:
        self.clock.task.advance(LOOK_SECONDS)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "who")


def test_it_is_looked_at_seldom_and_read_when_it_changed(desk: Desk) -> None:
    desk.path.write_text("ann@a.test\n")
    assert [desk.holds(ANN), desk.holds(BOB), desk.holds(ANN)] == [True, False, True]
    assert desk.offload.runs == 1
    desk.path.write_text("bob@a.test\n")
    os.utime(desk.path, ns=(7, 7))
    assert desk.holds(ANN)
    desk.later()
    assert [desk.holds(ANN), desk.holds(BOB)] == [False, True]
    desk.later()
    assert desk.holds(BOB)
    assert desk.offload.runs == 3


def test_without_a_file_nobody_is_known_not_to_exist(desk: Desk) -> None:
    with pytest.raises(Unavailable) as caught:
        desk.holds(ANN)
    assert caught.value.reason == f"{desk.path} cannot be read: No such file or directory"
    desk.path.write_text("ann@a.test\n")
    desk.later()
    assert desk.holds(ANN)
    assert desk.told[-1] == (True, "")


@pytest.mark.parametrize("content", ["", "# nothing\n", "ann@a.test\nbo"])
def test_what_it_held_before_is_better_than_half_of_it(desk: Desk, content: str) -> None:
    desk.path.write_text("ann@a.test\nbob@a.test\n")
    assert desk.holds(BOB)
    desk.path.write_text(content)
    desk.later()
    assert desk.holds(BOB)
    well, detail = desk.told[-1]
    assert not well
    assert detail.endswith("what it held before is used")
    # It was not changed since, but what was wrong is looked at again.
    desk.path.write_text("bob@a.test\n")
    desk.later()
    assert [desk.holds(ANN), desk.holds(BOB)] == [False, True]


def test_it_may_go_and_come_back(desk: Desk) -> None:
    desk.path.write_text("ann@a.test\n")
    assert desk.holds(ANN)
    desk.path.unlink()
    desk.later()
    assert desk.holds(ANN)
    desk.path.mkdir()
    desk.later()
    assert desk.holds(ANN)
    assert desk.told[-1][1].startswith("is no file")


def test_a_pipe_makes_nobody_wait(desk: Desk) -> None:
    os.mkfifo(desk.path)
    with pytest.raises(Unavailable):
        desk.holds(ANN)
