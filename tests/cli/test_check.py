"""What ``inboundmx check`` prints, and the status it leaves with."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from inboundmx.app.calling import Call
from inboundmx.cli import check
from inboundmx.model.custody import Host

GOOD = """
[gateway]
hostname = mx1.example.net
postmaster = postmaster@example.com
data = data
[domain example.com]
mode = backup
primary = 192.0.2.10 [2001:db8::1]:26
level.medium.threshold = 15
level.medium.action = quarantine
blocking.incoming_threshold = 40
weight.offers.match = defer
[check offers]
use = headers
header = Subject
value = offer
weight.match = 12.5
counts_for = filtering blocking
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command on a file; ``calls`` is what the primaries do."""

    def run(text: str, *options: str, calls: dict[Host, Call] | None = None) -> int:
        path = tmp_path / "in.ini"
        path.write_text(text, encoding="utf-8")

        def call_all(hosts: Any, hello: str) -> dict[Host, Call]:
            assert calls is not None, "offline must not call"
            assert hello == "mx1.example.net"
            return {host: calls.get(host, Call(host, True, "220 here")) for host in hosts}

        monkeypatch.setattr(check, "call_all", call_all)
        parser = argparse.ArgumentParser()
        parser.add_argument("--config")
        check.register(parser.add_subparsers())
        args = parser.parse_args(["--config", str(path), "check", *options])
        status: int = args.run(args)
        return status

    return run


def test_offline(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(GOOD, "--offline") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        f"mx1.example.net listens on tcp:25, its files are in {tmp_path}/data",
        "postmaster postmaster@example.com; no STARTTLS: [tls] certificate is empty; messages up to 30MB",
    ]
    assert lines[4:11] == [
        "example.com: backup to 192.0.2.10:25 [2001:db8::1]:26 (failover), tls opportunistic",
        "  handover cut-through within 30s; priority 5; recipients any",
        "  retry 10/10/10/1440: gives up after 24.5 h (5 attempts), then held",
        "  level medium from 15: quarantine",
        "  blocking from 40 on",
        "  offers=match is worth defer",
        "",
    ]
    assert lines[11:-2] == [
        "Levels, by the filtering sum",
        "  level       from  action",
        "  none    the rest  deliver",
        "  low           10  deliver",
        '  medium        20  tag "SPAM-MED:"',
        "  high          30  reject",
        "",
        "Blocking sum: refused from 30 on (outgoing 30)",
        "",
        "Checks and what their outcomes are worth",
        "  check   use      outcome  weight  counts for",
        "  offers  headers  absent        0  filtering blocking",
        "  offers  headers  error         0  filtering blocking",
        "  offers  headers  match      12.5  filtering blocking",
        "  offers  headers  timeout       0  filtering blocking",
    ]
    assert lines[-1].startswith("warning: [domain example.com] mail is held for an operator after 24.5 h")


def test_everybody_answers(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(GOOD, calls={}) == 0
    assert capsys.readouterr().out.split("Primaries\n")[1].splitlines()[:3] == [
        "  domain       primary           answers",
        "  example.com  192.0.2.10:25     yes      220 here",
        "  example.com  [2001:db8::1]:26  yes      220 here",
    ]


def test_one_does_not_answer(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    host = Host("192.0.2.10")
    assert run(GOOD, calls={host: Call(host, False, "cannot connect: refused")}) == 1
    assert "  example.com  192.0.2.10:25     no       cannot connect: refused\n" in capsys.readouterr().out


def test_a_primary_without_the_tls_that_is_required(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    text = GOOD.replace("mode = backup", "tls = required").replace(" [2001:db8::1]:26", "")
    host = Host("192.0.2.10")
    assert run(text, calls={}) == 1
    assert "does not offer STARTTLS, and tls = required" in capsys.readouterr().out
    assert run(text, calls={host: Call(host, True, "220 x", frozenset({"STARTTLS"}))}) == 0


def test_a_wrong_file(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("[smtp]\nmax_recipient = 5\nsession_timeout = 15\n") == 2
    assert capsys.readouterr().err.splitlines() == [
        f"inboundmx: {tmp_path}/in.ini:2: [smtp] max_recipient = 5: there is no key max_recipient here; "
        "did you mean max_recipients?",
        f"inboundmx: {tmp_path}/in.ini:3: [smtp] session_timeout = 15: a bare number has no unit; write 15m or 15s",
    ]


def test_a_wrong_file_as_json(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("[smtp]\nx = 5\n", "--json") == 2
    said = json.loads(capsys.readouterr().out)
    assert said["valid"] is False
    assert len(said["problems"]) == 1


def test_something_local_is_missing(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(GOOD + "[tls]\ncertificate = absent.pem\n", calls={}) == 2
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == (
        f"problem: [tls] certificate {tmp_path}/absent.pem cannot be read: No such file or directory"
    )
    assert captured.err == "inboundmx: the INI is valid, but the gateway will not start\n"


def test_as_json(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    host = Host("192.0.2.10")
    assert run(GOOD, "--json", calls={host: Call(host, False, "gone")}) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["valid"] is True
    assert said["problems"] == []
    assert len(said["warnings"]) == 1
    assert said["gives_up_after_seconds"] == {"example.com": 88200.0}
    assert said["primaries"][0] == {
        "domain": "example.com", "host": "192.0.2.10:25", "answers": False, "detail": "gone",
    }  # fmt: skip
    assert said["primaries"][1]["answers"] is True
    assert said["settings"]["check offers"]["weight.match"] == "12.5"
    assert said["settings"]["smtp"]["session_timeout"] == "15m"
    assert len(said["fingerprint"]) == 12


def test_as_json_offline_the_primaries_are_unknown(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(GOOD, "--json", "--offline") == 0
    assert [each["answers"] for each in json.loads(capsys.readouterr().out)["primaries"]] == [None, None]


def test_without_domains_and_checks(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("[gateway]\nhostname = mx1.example.net\ndata = d\n", "--offline") == 0
    assert "No check runs: there is no [check …] section" in capsys.readouterr().out
