"""Postfix with rspamd as its milter, which is how many filter mail on Debian today.

Knows what is set of rspamd beside its stock configuration: two proxy workers that scan by themselves, the name server,
the same three lists as everybody's here, no Redis, and nothing that would ask the network. Does not know what is sent.
"""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import proc
from benchmarks.peers import Postfix, free_port, program, stopped_on_failure
from benchmarks.services import LISTS, Service

# Processor time that a process at rest may use in SETTLED_SECONDS, and how long we wait for that at most.
AT_REST, SETTLED_SECONDS, LONGEST_SECONDS = 0.02, 0.5, 60.0
PROXY_WORKERS = 2
# Those that want Redis, look for updates, or ask services that this machine could not reach.
OFF = (
    *("fuzzy_check", "rspamd_update", "asn", "neural", "ratelimit", "greylist", "history_redis", "replies", "bimi"),
    *("reputation", "url_redirector", "phishing", "mx_check", "surbl", "dcc", "elastic", "clickhouse", "p0f"),
)


def lists(zones: Sequence[str]) -> str:
    each = "\n".join(
        f'  "{zone}" {{ symbol = "LISTED_{number}"; rbl = "{zone}"; ipv6 = false; checks = ["from"]; }}'
        for number, zone in enumerate(zones)
    )
    return f"rbls {{\n{each}\n}}\n"


class Rspamd(Service):
    """A milter on ``port``."""

    def __init__(self, folder: Path, dns_port: int) -> None:
        rspamd = program("rspamd", "rspamd")
        folder.mkdir()
        self.port = free_port()
        local, override = folder / "local.d", folder / "override.d"
        for path in (local, override, folder / "state"):
            path.mkdir()
        shutil.chown(folder / "state", "_rspamd", "_rspamd")
        for worker in ("normal", "controller", "fuzzy"):
            (local / f"worker-{worker}.inc").write_text("enabled = false;\n")
        (local / "worker-proxy.inc").write_text(
            f'bind_socket = "127.0.0.1:{self.port}";\ncount = {PROXY_WORKERS};\n'
            'upstream "local" { default = yes; self_scan = yes; }\n'
        )
        (local / "options.inc").write_text(
            f'dns {{ nameserver = ["127.0.0.1:{dns_port}"]; }}\ntempdir = "{folder}/state";\nlocal_addrs = [];\n'
        )
        (local / "logging.inc").write_text(f'type = "file";\nfilename = "{folder}/state/rspamd.log";\n')
        for module in OFF:
            (local / f"{module}.conf").write_text("enabled = false;\n")
        (override / "rbl.conf").write_text(lists(LISTS))
        variables = {"LOCAL_CONFDIR": folder, "DBDIR": folder / "state", "RUNDIR": folder / "state",
                     "LOGDIR": folder / "state"}  # fmt: skip
        command = [rspamd, "-f", "-u", "_rspamd", "-g", "_rspamd", "-c", "/etc/rspamd/rspamd.conf"]
        self._folder = folder
        self._command = command + [f"--var={name}={value}" for name, value in variables.items()]
        self.start()

    def start(self) -> None:
        """Also after ``stop``: with its rules compiled, and no answer known."""
        super().__init__("rspamd", self._folder, self._command)
        with stopped_on_failure(self.stop):
            # The first time it compiles all rules before it listens.
            self.wait_until(self._listens, 240.0)
            self._settle()

    def _listens(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 1.0):
            return True

    def _settle(self) -> None:
        """It compiles its rules when it starts, once, and that is no part of a message's cost."""
        deadline, spent = time.monotonic() + LONGEST_SECONDS, proc.cpu_seconds(self.pid)
        while time.monotonic() < deadline:
            time.sleep(SETTLED_SECONDS)
            before, spent = spent, proc.cpu_seconds(self.pid)
            if spent - before <= AT_REST:
                return


class PostfixWithRspamd(Postfix):
    def __init__(self, folder: Path, dns_port: int) -> None:
        self.milter = Rspamd(folder.parent / f"{folder.name}-rspamd", dns_port)
        milter = f"inet:127.0.0.1:{self.milter.port}"
        with stopped_on_failure(self.milter.stop):
            super().__init__(folder, f"smtpd_milters = {milter}\nmilter_default_action = tempfail\n")

    def forget(self) -> None:
        """What it remembers of domains and clients."""
        self.milter.stop()
        self.milter.start()

    def cpu_seconds(self) -> float:
        return super().cpu_seconds() + proc.cpu_seconds(self.milter.pid)

    def stop(self) -> None:
        super().stop()
        self.milter.stop()
