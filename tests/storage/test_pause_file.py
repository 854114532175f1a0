"""The file of pauses: read back as written, replaced whole, and safe when it makes no sense."""

import os
from pathlib import Path

import pytest

from inboundmx.delivery.pausing import Pause
from inboundmx.ports import Unavailable
from inboundmx.storage.pause_file import NAME, PauseFile

PAUSES = [Pause("", "move", "ann", 1.5, None), Pause("a.test", "caf\u00e9", "bob (uid 7)", 2.0, 99.0)]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    file = PauseFile(str(tmp_path))
    assert file.read() == []
    file.write(PAUSES)
    assert file.read() == PAUSES
    file.write(PAUSES[:1])
    assert file.read() == PAUSES[:1]
    assert os.listdir(tmp_path) == [NAME] and (tmp_path / NAME).stat().st_mode & 0o777 == 0o600


def test_what_was_half_written_before_a_crash_does_not_count(tmp_path: Path) -> None:
    file = PauseFile(str(tmp_path))
    file.write(PAUSES)
    (tmp_path / (NAME + ".new")).write_bytes(b"{")
    assert file.read() == PAUSES


@pytest.mark.parametrize(
    "octets", [b"", b"{", b"[]", b'{"paused": [{}]}', b'{"paused": 5}', b"\xff", b"[" * 100_000,
               b'{"paused": [{"domain": 5, "reason": "", "asked_by": "", "since_at": 1, "until_at": null}]}'],
    ids=range(8),
)  # fmt: skip
def test_what_makes_no_sense_pauses_all(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / NAME).write_bytes(octets)
    (pause,) = PauseFile(str(tmp_path)).read()
    assert (pause.domain, pause.until_at) == ("", None) and "damaged" in pause.reason


def test_a_folder_that_is_not_there_is_trouble(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        PauseFile(str(tmp_path / "gone")).write(PAUSES)
    (tmp_path / NAME).mkdir()
    with pytest.raises(Unavailable):
        PauseFile(str(tmp_path)).read()
