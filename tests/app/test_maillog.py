"""The journal: one JSON text for log and ledger, levels, rotation, and lines that are lost are counted."""

from __future__ import annotations

import json
import os
import threading

import pytest
from fakes.clock import FakeClock

from inboundmx.app import maillog
from inboundmx.app.maillog import FaultObserver, LineWriter, MailLog, line_writer
from inboundmx.model.settings import LogSettings


class Kept:
    def __init__(self):
        self.rows = []

    def add(self, at, id, event, text, also=()):
        self.rows.append((id, event, json.loads(text), also))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mail.log"


def made(path, **settings):
    given = LogSettings(to=str(path), **settings)
    kept, clock = Kept(), FakeClock()
    return MailLog(given, clock, line_writer(given), kept), kept, clock


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_event_is_a_line_and_a_row(path):
    log, kept, _ = made(path)
    log.record("spooled", "m1", {"entry": "e1", "size": 3})
    log.record("refused", "m2", {}, level="warning")
    log.close()
    at = "2027-01-15T08:00:00.000Z"
    assert lines(path) == [
        {"at": at, "level": "info", "event": "spooled", "id": "m1", "entry": "e1", "size": 3},
        {"at": at, "level": "warning", "event": "refused", "id": "m2"},
    ]
    assert kept.rows == [("m1", "spooled", {"entry": "e1", "size": 3}, ("e1",)), ("m2", "refused", {}, ())]


@pytest.mark.parametrize(
    ("level", "logged", "in_ledger"),
    [("debug", ["debug", "info", "error"], 2), ("info", ["info", "error"], 2), ("error", ["error"], 2)],
)
def test_levels(path, level, logged, in_ledger):
    log, kept, _ = made(path, level=level)
    for each in ("debug", "info", "error"):
        log.record("x", "", {}, level=each)
    log.close()
    assert [line["level"] for line in lines(path)] == logged
    assert len(kept.rows) == in_ledger


@pytest.mark.parametrize("text_format", ["json", "text"])
def test_nothing_breaks_out_of_its_line(path, text_format):
    log, _, _ = made(path, format=text_format)
    log.record("refused", "m", {"helo": "a\r\nb\x1b[31m\u2028\u202e%s", "huge": "x" * 1_000_000})
    log.close()
    raw = path.read_bytes()
    assert raw.count(b"\n") == 1 and raw.endswith(b"\n")
    assert all(0x20 <= octet < 0x7F for octet in raw[:-1])
    if text_format == "json":
        assert len(json.loads(raw)["cut"]) <= 64 * 1024


def test_lines_wait_for_one_another(path):
    log, _, clock = made(path)
    log.record("one", "", {})
    log.record("two", "", {})
    assert len(clock.turned.getDelayedCalls()) == 1
    clock.advance(1)
    log.close()
    assert [line["event"] for line in lines(path)] == ["one", "two"]


def test_new_settings_begin_a_rotated_file_anew_and_let_the_old_one_go(path, tmp_path):
    log, _, _ = made(path)
    log.record("before", "", {})
    path.rename(tmp_path / "mail.log.1")
    ended = log._writer._thread
    log.configure(log.settings, line_writer(log.settings))
    log.record("after", "", {})
    log.close()
    ended.join(10)
    assert [line["event"] for line in lines(path)] == ["after"]
    assert [line["event"] for line in lines(tmp_path / "mail.log.1")] == ["before"]
    rotated = (tmp_path / "mail.log.1").stat()
    numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    assert not any(os.path.samestat(rotated, os.fstat(number)) for number in numbers if _there(number))


def _there(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def test_new_settings_may_name_another_file(path, tmp_path):
    log, _, _ = made(path)
    there = LogSettings(to=str(tmp_path / "other.log"), level="error")
    log.configure(there, line_writer(there))
    log.record("quiet", "", {})
    log.record("loud", "", {}, level="error")
    log.close()
    assert [line["event"] for line in lines(tmp_path / "other.log")] == ["loud"]


def test_a_file_that_cannot_be_opened_is_said(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        line_writer(LogSettings(to=str(tmp_path / "none" / "mail.log")))


def test_lines_that_nobody_takes_are_counted_and_told(path, monkeypatch):
    monkeypatch.setattr(maillog, "_BATCHES_WAITING", 1)
    going = threading.Event()
    reader, writing = os.pipe()
    monkeypatch.setattr(maillog.os, "write", lambda number, octets: (going.wait(10), len(octets))[1])
    log = MailLog(LogSettings(to=str(path)), FakeClock(), LineWriter(writing), None)
    for number in range(5):
        log.record("line", str(number), {})
        log.flush()
    told = [line for line in log._waiting if "log_lines_dropped" in line]
    going.set()
    log.close()
    os.close(reader)
    assert told and json.loads(told[0])["lines"] >= 1


def test_a_fault_is_one_line(path):
    log, _, _ = made(path)
    observer = FaultObserver(log)
    from twisted.logger import LogLevel
    from twisted.python.failure import Failure

    try:
        raise ValueError("what\nwent wrong")
    except ValueError:
        observer({"log_level": LogLevel.critical, "log_failure": Failure(), "log_format": "Unhandled"})
    observer({"log_level": LogLevel.info, "log_format": "chatter"})
    log.close()
    (line,) = lines(path)
    assert (line["event"], line["level"], line["what"]) == ("fault", "error", "ValueError: what\nwent wrong")
    assert line["where"]
