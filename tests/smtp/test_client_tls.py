"""Encryption, host names, real sockets: the client against a server of ours, in a process with a real reactor."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    child = Path(__file__).with_name("client_tls_child.py")
    folder = tmp_path_factory.mktemp("large")
    command = [sys.executable, str(child), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("title", ["opportunistic", "required", "verified", "verified by name"])
def test_encrypted(report: dict[str, Any], title: str) -> None:
    assert report[title]["tls"].startswith("TLSv1.")
    assert report[title]["results"] == [[True, "", f"250 {report['small']} encrypted"]] * 2


@pytest.mark.parametrize("title", ["none", "opportunistic noise", "from an address"])
def test_in_the_clear(report: dict[str, Any], title: str) -> None:
    assert report[title]["tls"] == ""
    assert report[title]["results"] == [[True, "", f"250 {report['small']} clear"]] * 2
    assert report[title]["no_delay"] is True


@pytest.mark.parametrize(
    ("title", "trouble", "phase"),
    [
        ("verified wrong name", "tls", "tls"),
        ("verified no name", "tls", "tls"),
        ("verified stranger", "tls", "tls"),
        ("required noise", "tls", "tls"),
        ("opportunistic silence", "timeout", "tls"),
        ("closed", "refused", "connect"),
    ],
)
def test_refused(report: dict[str, Any], title: str, trouble: str, phase: str) -> None:
    assert report[title] == {"refused": trouble, "phase": phase}


@pytest.mark.parametrize(("title", "how"), [("large clear", "clear"), ("large encrypted", "encrypted")])
def test_large_bodies_arrive_whole(report: dict[str, Any], title: str, how: str) -> None:
    assert report[title]["results"] == [[True, "", f"250 {report['large']} {how}"]] * 2


def test_nothing_is_left_ticking(report: dict[str, Any]) -> None:
    assert report["timers"] == 0
