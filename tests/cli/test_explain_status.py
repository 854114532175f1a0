"""``explain`` finds a story whether or not the gateway runs; ``status`` says plainly which of the two it is."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from stopped_gateway import ENTRIES, NOW, StoppedGateway

from inboundmx.cli import explain
from inboundmx.cli.main import main
from inboundmx.cli.status import told
from inboundmx.model.identity import make_id


@pytest.fixture
def gateway(tmp_path: Path) -> StoppedGateway:
    made = StoppedGateway(tmp_path)
    made.keep(*ENTRIES)
    spooled = {"entry": "entry0active", "sender": "ann@sender.example", "reason": "primary is down"}
    refused = {"verb": "RCPT", "reply": "550 5.1.1 no such user here 0refused", "ip": "192.0.2.1", "helo": "x.example"}
    with made.ledger() as add:
        add(NOW - 7200, "mentry0active", "spooled", json.dumps(spooled), ("entry0active",))
        add(NOW - 3600, "0refused", "refused", json.dumps(refused))
    return made


@pytest.mark.parametrize("id", ["mentry0active", "entry0active", "MENTRY0ACTIVE"])
def test_a_spooled_message_is_explained_by_either_id(
    gateway: StoppedGateway, capsys: pytest.CaptureFixture[str], id: str
) -> None:
    assert main(["--config", str(gateway.config), "explain", id]) == 0
    out = capsys.readouterr().out
    assert "taken into the spool" in out and "primary is down" in out
    assert "now: active in the spool as entry0active" in out


def test_a_refusal_is_explained(gateway: StoppedGateway, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(gateway.config), "explain", "0refused"]) == 0
    out = capsys.readouterr().out
    assert "refused at RCPT" in out and "192.0.2.1 (helo x.example)" in out and "now: not in the spool" in out


def test_as_json_everything_is_kept(gateway: StoppedGateway, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(gateway.config), "explain", "--json", "entry0active"]) == 0
    story = json.loads(capsys.readouterr().out)
    assert (story["id"], [event["event"] for event in story["events"]]) == ("entry0active", ["spooled"])
    assert story["events"][0]["fields"]["reason"] == "primary is down"
    assert [entry["id"] for entry in story["now"]] == ["entry0active"]


def test_an_unknown_id_is_said(gateway: StoppedGateway, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(gateway.config), "explain", "nosuch\x1b[1m"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("inboundmx: nothing is known of nosuch\N{REPLACEMENT CHARACTER}[1m: ")


def test_what_happened_just_now_is_waited_for(
    gateway: StoppedGateway, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    id = make_id(time.time(), "abc123")

    def wait(seconds: float) -> None:
        with gateway.ledger() as add:
            add(time.time(), id, "refused", json.dumps({"verb": "RCPT", "reply": "550 5.7.1 no"}))

    monkeypatch.setattr(explain.time, "sleep", wait)
    assert main(["--config", str(gateway.config), "explain", id]) == 0
    assert "refused at RCPT" in capsys.readouterr().out


def test_a_story_is_told_even_when_the_spool_cannot_be_asked(
    gateway: StoppedGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    with gateway.spool():
        assert main(["--config", str(gateway.config), "explain", "0refused"]) == 0
    out, err = capsys.readouterr()
    assert "now: the spool could not be asked" in out and "starting or stopping" in err


def test_status_of_a_stopped_gateway(gateway: StoppedGateway, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(gateway.config), "status"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("the gateway is not running: nobody answers at ")
    assert "1 active, 1 held, 1 quarantined, 0 expired" in out


def test_status_of_a_gateway_that_never_ran(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    never = StoppedGateway(tmp_path)
    assert main(["--config", str(never.config), "status"]) == 1
    assert "nothing has ever been spooled" in capsys.readouterr().out


def test_status_of_a_running_gateway(gateway: StoppedGateway, capsys: pytest.CaptureFixture[str]) -> None:
    with gateway.running():
        assert main(["--config", str(gateway.config), "status"]) == 0
        assert main(["--config", str(gateway.config), "status", "--json"]) == 0
        assert main(["--config", str(gateway.config), "explain", "entry0active"]) == 0
    out = capsys.readouterr().out
    for fact in (
        "the gateway is running",
        "running for  2m",
        "worker 0     pid 7, connections 3",
        "127.0.0.1:2526  open   connection refused",
        "a.test  1      0    0",
        "clamd /run/clamav/clamd.ctl  down   0s   0s ago  0         1       connection refused",
        "zen.spamhaus.org             up     0s   0s ago  1         0       -",
        '"running": true',
        "now: active in the spool as entry0active",
    ):
        assert fact in out, out


def test_status_lines() -> None:
    primaries = [
        {"host": "[2001:db8::1]:25", "state": "closed"},
        {"host": "x", "last_error": "refused\x1b", "rate": 0.5},
    ]
    process = {
        "running": True, "pid": 7, "spool": {"active": 2, "held": 0}, "spool_octets": 4300, "oldest_seconds": 7300.0,
        "free_octets": 5 * 2**30, "settings": "f00", "started_at": 850.0,
        "primaries": primaries, "throttled": {"a.test": {"limit": "messages_per_hour", "seconds": 1200.5}},
    }  # fmt: skip
    assert told(process, 1000.0) == [
        "  running for  2m",
        "  pid          7",
        "  spool        2 active, 0 held",
        "               4.2KB, the oldest 2h old",
        "  disk         5.0GB free",
        "  throttled    a.test: messages_per_hour is reached, goes on in 20m",
        "",
        "HOST              STATE   LAST ERROR  RATE",
        "[2001:db8::1]:25  closed  -           -",
        "x                 -       refused\N{REPLACEMENT CHARACTER}    0.500",
    ]
