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


@pytest.mark.parametrize(
    "title",
    ["opportunistic", "required", "verified", "verified by name", "verified by the name it was looked up for"],
)
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
        ("verified another name", "tls", "tls"),
        ("verified wrong name", "tls", "tls"),
        ("verified no name", "tls", "tls"),
        ("verified stranger", "tls", "tls"),
        ("required noise", "tls", "tls"),
        ("opportunistic silence", "timeout", "tls"),
        ("closed", "refused", "connect"),
        ("from an address not ours", "refused", "connect"),
        ("password wrong", "rejects_us", "auth"),
        ("password noise", "tls", "tls"),
    ],
)
def test_refused(report: dict[str, Any], title: str, trouble: str, phase: str) -> None:
    assert (report[title]["refused"], report[title]["phase"]) == (trouble, phase)
    assert "AGdhdGV3YXk" not in report[title]["detail"]


@pytest.mark.parametrize("title", ["password", "password verified"])
def test_a_password_goes_over_tls(report: dict[str, Any], title: str) -> None:
    assert report[title]["tls"].startswith("TLSv1.")
    assert report[title]["auth"] == ["AUTH PLAIN AGdhdGV3YXkAc2VjcmV0"]
    assert report[title]["results"][0][0] is True


def test_a_password_does_not_go_where_encryption_failed(report: dict[str, Any]) -> None:
    assert report["password noise"]["auth"] == []
    # Told to, it goes all the same, by what gives the least away.
    assert report["password noise in the clear"]["auth"] == ["AUTH CRAM-MD5"]


def test_what_is_wrong_with_a_certificate_is_said(report: dict[str, Any]) -> None:
    assert report["verified another name"]["detail"] == "the certificate of the server does not name x.test"
    told = "no encrypted connection as asked for: certificate verify failed"
    assert report["verified stranger"]["detail"] == told


def test_why_there_is_no_connection_is_said(report: dict[str, Any]) -> None:
    assert report["closed"]["detail"] == "no connection: Connection refused"
    told = report["from an address not ours"]["detail"]
    assert told.startswith("no connection from ") and told.endswith(": Cannot assign requested address")


@pytest.mark.parametrize(("title", "how"), [("large clear", "clear"), ("large encrypted", "encrypted")])
def test_large_bodies_arrive_whole(report: dict[str, Any], title: str, how: str) -> None:
    assert report[title]["results"] == [[True, "", f"250 {report['large']} {how}"]] * 2


def test_nothing_is_left_ticking(report: dict[str, Any]) -> None:
    assert report["timers"] == 0
