"""Haraka as npm has it, installed once into a folder of the checkout that git does not see.

Knows its stock configuration, and how its two ways are switched on: forwarding while the client waits
(``queue/smtp_forward``), and its own queue on disk with what it calls outbound. Left out of the stock list of plugins
is ``mail_from.is_resolvable``, as nobody else looks a sender up. One process, as it comes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from benchmarks.peers import DOMAIN, NotHere, Peer, program, stopped_on_failure, wait_for_banner

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "haraka"
# The version that was tried. Of libmime it takes any of a range, and not every registry has the newest one
# whole; its optional plug-ins are not used.
PACKAGE = {"private": True, "dependencies": {"Haraka": "3.3.4"}, "overrides": {"libmime": "5.4.6"}}
OLDEST_NODE = 20
INSTALL_SECONDS = 180.0
# What its own queue takes it takes from those who may relay.
RELAY = "exports.hook_mail = (next, connection) => { connection.relaying = true; next() }\n"


def installed() -> Path:
    """The package. Raises NotHere without a node that is new enough, without npm, and with what npm had to say."""
    node = program("node", "nodejs")
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    major = told.removeprefix("v").partition(".")[0]
    if not major.isdigit() or int(major) < OLDEST_NODE:
        raise NotHere(f"Haraka needs node {OLDEST_NODE} or later, and this is {told or 'none that answers'}")
    package = CACHE / "node_modules" / "Haraka"
    if not (package / "haraka.js").exists():
        npm = program("npm", "npm")
        CACHE.mkdir(parents=True, exist_ok=True)
        (CACHE / "package.json").write_text(json.dumps(PACKAGE))
        command = [npm, "install", "--omit=optional", "--no-audit", "--no-fund"]
        try:
            done = subprocess.run(
                command, cwd=CACHE, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise NotHere(f"npm did not install Haraka within {INSTALL_SECONDS:g} s") from None
        if done.returncode != 0:
            errors = [line.removeprefix("npm error ") for line in done.stderr.splitlines() if "npm error" in line]
            raise NotHere(f"npm did not install Haraka: {'; '.join(errors[:2])}")
    return package


class Haraka(Peer):
    """``durable``: by its own queue. ``more``: plugins of ours that are asked first, by name."""

    def __init__(self, folder: Path, *, durable: bool, more: Mapping[str, str] = {}) -> None:
        package = installed()
        super().__init__(folder)
        shutil.copytree(package / "config", folder / "config")
        (folder / "plugins").mkdir()
        (folder / "plugins" / "all_may_relay.js").write_text(RELAY)
        for name, text in more.items():
            (folder / "plugins" / f"{name}.js").write_text(text)
        plugins = [*more, *(["all_may_relay"] if durable else []), "rcpt_to.in_host_list", "queue/smtp_forward"]
        forward = f"host=127.0.0.1\nport={self.sink.port}\n"
        for name, text in {
            "smtp.ini": f"listen=127.0.0.1:{self.port}\n",
            "me": "mx.gateway.example\n",
            "host_list": f"{DOMAIN}\n",
            "plugins": "\n".join(plugins) + "\n",
            "smtp_forward.ini": f"{forward}[{DOMAIN}]\n{forward}",
            # Its primary is on loopback, as everybody's is here.
            "outbound.ini": "local_mx_ok=true\n",
        }.items():
            (folder / "config" / name).write_text(text)
        log = folder / "haraka.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [program("node", "nodejs"), str(package / "bin" / "haraka"), "-c", str(folder)],
                stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self.pid = self._process.pid
        with stopped_on_failure(self.stop):
            wait_for_banner(self.port, "haraka", log, self._process)

    def stop(self) -> None:
        # The group that was made for it, and nobody else is in.
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        super().stop()
