"""The console of a real gateway over real HTTP, and gateways that ask each other how much waits."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from programs import DOMAIN, Certificate, Gateway, Stage, domain, free_port, letter, need, post, small_disk, until

USERNAME, PASSWORD = "ann", "s3cret"


def console(port: int, password: str = PASSWORD, kind: str = "tcp") -> str:
    listen = f"{kind}:{port}:interface=127.0.0.1"
    return f"[console]\nlisten = {listen}\n" + (f"username = {USERNAME}\npassword = {password}\n" if password else "")


def outbound(name: str, server: int, console_port: int, scheme: str = "http", **keys: str) -> str:
    keys |= {"status_url": f"{scheme}://127.0.0.1:{console_port}", "status_username": USERNAME}
    keys.setdefault("status_password", PASSWORD)
    said = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return f"[outbound {name}]\nserver = 127.0.0.1:{server}\n{said}"


class Heard:
    def __init__(self, port: int, path: str, password: str = "", method: str = "GET") -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        fields = {}
        if password:
            fields["Authorization"] = "Basic " + b64encode(f"{USERNAME}:{password}".encode()).decode()
        connection.request(method, path, headers=fields)
        answer = connection.getresponse()
        self.code = answer.status
        self.fields = {name.lower(): value for name, value in answer.getheaders()}
        self.text = answer.read().decode()
        connection.close()

    @property
    def facts(self) -> Any:
        return json.loads(self.text)


def privileged_port() -> int:
    """A free one that nobody but root may listen on."""
    for port in range(1023, 512, -1):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    pytest.skip("every port below 1024 is taken")


def waiting(port: int) -> int:
    return int(Heard(port, "/api/status", PASSWORD).facts["spool"]["waiting"])


def service(gateway: Gateway, console_port: int) -> dict[str, Any]:
    """What a gateway has noted of the console of another; empty before it asked."""
    (process,) = json.loads(gateway.command("status", "--json"))["processes"]
    for row in process["services"]:
        if row["service"].endswith(f":{console_port}"):
            return dict(row)
    return {}


def test_what_a_monitor_and_a_neighbour_ask(play: Stage) -> None:
    port = free_port()
    primary = play.recording()
    gateway = play.gateway(domain(primary.port) + domain(free_port(), "down.example") + console(port))
    assert post(gateway.port, letter("delivered")).code == 250
    for number in range(3):
        assert post(gateway.port, letter(f"waits {number}"), recipients=["user@down.example"]).code == 250

    well = Heard(port, "/healthz")
    assert (well.code, well.text) == (200, "ok\n")
    assert "server" not in well.fields and well.fields["cache-control"] == "no-store"
    facts = Heard(port, "/api/status", PASSWORD).facts
    assert facts["spool"] == {"active": 3, "held": 0, "quarantined": 0, "waiting": facts["spool"]["waiting"]}
    assert f"127.0.0.1:{primary.port}" in facts["hosts"]
    until("all three wait", lambda: waiting(port) == 3)
    assert Heard(port, "/api/status", PASSWORD, method="HEAD").text == ""
    assert Heard(port, "/api/status", PASSWORD, method="POST").code == 405
    assert Heard(port, "/").code == 404


def test_closed_without_a_password_and_open_with_one_after_a_reload(play: Stage) -> None:
    port = free_port()
    sections = domain(free_port())
    gateway = play.gateway(sections + console(port, ""))
    assert Heard(port, "/api/status", PASSWORD).code == 403
    assert Heard(port, "/healthz").code == 200

    gateway.configure(sections + console(port))
    gateway.hangup()
    until("the new password holds", lambda: Heard(port, "/api/status", PASSWORD).code == 200)
    assert Heard(port, "/api/status").code == 401


def test_where_it_listens_needs_a_restart(play: Stage) -> None:
    port = free_port()
    gateway = play.gateway(domain(free_port()) + console(port))
    gateway.configure(domain(free_port()) + console(free_port()))
    gateway.hangup()
    (event,) = until("refused", lambda: gateway.log_events(event="reload_refused"))
    assert "console" in str(event["problems"])
    assert Heard(port, "/healthz").code == 200


def test_guessing_is_slow(play: Stage) -> None:
    port = free_port()
    gateway = play.gateway(domain(free_port()) + console(port))
    codes = [Heard(port, "/api/status", f"guess {number}").code for number in range(12)]
    assert codes == [401] * 10 + [429] * 2
    assert Heard(port, "/api/status", PASSWORD).code == 429
    until("the log has them", lambda: len(gateway.log_events(event="login_failed")) == 10)
    assert PASSWORD not in gateway.said() and "guess" not in gateway.said()


def test_a_port_that_is_taken_is_told(play: Stage) -> None:
    primary = play.recording()
    gateway = play.gateway(domain(primary.port) + console(primary.port), start=False)
    done = subprocess.run(gateway.launch_command(), cwd=gateway.folder, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert f"tcp:{primary.port}" in done.stderr


@pytest.mark.root
def test_it_is_bound_before_root_is_given_up(play: Stage) -> None:
    port = privileged_port()
    gateway = play.gateway(domain(free_port()) + console(port), gateway_keys="user = nobody\n")
    status = Path(f"/proc/{gateway.pid}/status").read_text()
    (uids,) = [line.split()[1:] for line in status.splitlines() if line.startswith("Uid:")]
    assert "0" not in uids
    assert Heard(port, "/healthz").code == 200


@pytest.mark.root
def test_a_full_disk_is_told(play: Stage) -> None:
    port = free_port()
    gateway = play.gateway(domain(free_port()) + console(port), start=False)
    with small_disk(gateway, "size=64m"):
        gateway.start()
        assert Heard(port, "/healthz").code == 200
        filling = gateway.data / "filling"
        room = os.statvfs(gateway.data)
        filling.write_bytes(bytes(room.f_bavail * room.f_frsize - 1_000_000))
        until("it says so", lambda: (heard := Heard(port, "/healthz")).code == 503 and "disk" in heard.text)
        filling.unlink()
        until("well again", lambda: Heard(port, "/healthz").code == 200)


def test_a_stop_does_not_wait_for_who_is_connected(play: Stage) -> None:
    port = free_port()
    gateway = play.gateway(domain(free_port()) + console(port))
    idle = http.client.HTTPConnection("127.0.0.1", port)
    idle.connect()
    assert gateway.stop() == 0
    idle.close()


# --- gateways among themselves ----------------------------------------------------------------------------------------


def test_the_emptier_gateway_is_given_more(play: Stage) -> None:
    consoles = [free_port(), free_port()]
    primary = play.recording()
    # One has nowhere to deliver to, and so a spool that fills.
    full = play.gateway(domain(free_port(), "away.example") + console(consoles[0]))
    empty = play.gateway(domain(primary.port, "away.example") + console(consoles[1]))
    for number in range(90):
        assert post(full.port, letter(f"old {number}"), recipients=["user@away.example"]).code == 250
    until("its spool is full", lambda: waiting(consoles[0]) == 90)

    ours = play.gateway(
        "[relay]\nallow = 127.0.0.1\n"
        + domain(free_port())
        + outbound("full", full.port, consoles[0])
        + outbound("empty", empty.port, consoles[1])
    )
    for port in consoles:
        until("it was asked", lambda port=port: service(ours, port).get("state") == "up")
    for number in range(22):
        post_out = post(ours.port, letter(f"new {number}"), sender=f"ann@{DOMAIN}", recipients=["user@away.example"])
        assert post_out.code == 250
    until("all are on their way", lambda: primary.count() + waiting(consoles[0]) == 22 + 90)
    # By weight it is ten of eleven; without the counts it would be half.
    assert primary.count() >= 18


class AddressCertificate(Certificate):
    """Self-signed, for 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "address.pem"
        self.key = folder / "address.key"
        made = [*(need("openssl"), "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
                *("-keyout", str(self.key), "-out", str(self.certificate), "-days", "2", "-subj", "/CN=console"),
                *("-addext", "subjectAltName=IP:127.0.0.1")]  # fmt: skip
        subprocess.run(made, check=True, capture_output=True)


@pytest.mark.parametrize("right, trusted", [(True, True), (True, False), (False, True)])
def test_over_tls_only_who_proves_its_name_is_told_our_password(
    play: Stage, certificate: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: bool, trusted: bool
) -> None:
    port = free_port()
    shown = AddressCertificate(tmp_path) if right else certificate
    other = play.gateway(domain(free_port()) + shown.section + console(port, kind="ssl"))
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(shown.certificate))
    ours = play.gateway(domain(free_port()) + outbound("other", other.port, port, "https"))
    noted = until("it was asked", lambda: service(ours, port))
    if right and trusted:
        assert noted["state"] == "up", noted
    else:
        assert noted["state"] == "down" and "cannot be trusted" in noted["detail"], noted


def test_a_wrong_password_is_told(play: Stage) -> None:
    port = free_port()
    other = play.gateway(domain(free_port()) + console(port))
    ours = play.gateway(domain(free_port()) + outbound("other", other.port, port, status_password="wrong"))
    noted = until("it was asked", lambda: service(ours, port))
    assert noted["state"] == "down" and "401" in noted["detail"]
    until("the log has it", lambda: len(other.log_events(event="login_failed")) == 1)
