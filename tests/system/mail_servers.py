"""Postfix as a host that trusts us, with Dovecot to say who may log in: each in a folder of its own, on loopback.

Knows how they are configured, and how what Postfix took is read back. Nothing of the machine's own mail set-up is read
for values or changed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import pytest
from programs import PACKAGES, Certificate, Child, free_port, need

PACKAGES |= {"postfix": "postfix", "postcat": "postfix"}

USER, PASSWORD = "gateway", "grün geheim 1"
# What a port of Postfix offers: what all of them do, and more.
PORTS: Mapping[str, tuple[str, ...]] = {
    "trusting": (),
    "suspicious": ("smtpd_authorized_xclient_hosts=", "smtpd_authorized_xforward_hosts="),
    "step by step": ("smtpd_discard_ehlo_keywords=PIPELINING,DSN",),
    "PLAIN": ("smtpd_sasl_auth_enable=yes", "smtpd_sasl_mechanism_filter=plain"),
    "LOGIN": ("smtpd_sasl_auth_enable=yes", "smtpd_sasl_mechanism_filter=login"),
    "CRAM-MD5": ("smtpd_sasl_auth_enable=yes", "smtpd_sasl_mechanism_filter=cram-md5"),
    "greets by client": (
        "smtpd_delay_reject=no",
        "smtpd_client_restrictions=check_client_access,inline:{192.0.2.66=reject},permit",
    ),
}


class Authority(Child):
    """Dovecot, which checks passwords for Postfix and nothing else."""

    def __init__(self, folder: Path) -> None:
        super().__init__("dovecot", folder)
        self.socket = folder / "auth"
        (folder / "passwords").write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n", encoding="utf-8")
        self._config = folder / "dovecot.conf"
        self._config.write_text(
            f"""
protocols =
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
ssl = no
auth_mechanisms = plain login cram-md5
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {folder}/passwords
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}}
service auth {{
  unix_listener {self.socket} {{
    mode = 0666
  }}
}}
service anvil {{
  chroot =
  # Nobody is kept waiting for having been wrong before.
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
"""
        )

    def start(self) -> Self:
        self.spawn([need("dovecot"), "-F", "-c", str(self._config)])
        return self

    def close(self) -> None:
        if self.running:
            self.end(signal.SIGTERM)


class Postfix(Child):
    """Takes mail on every one of PORTS and holds it. ``ports``: by what is special about each."""

    def __init__(self, folder: Path, authority: Authority, certificate: Certificate) -> None:
        super().__init__("postfix", folder)
        if os.geteuid() != 0:
            pytest.skip("Postfix can be started by root only")
        self._postfix = need("postfix")
        self._config = folder / "etc"
        for name in ("etc", "queue", "data"):
            (folder / name).mkdir()
        shutil.chown(folder / "data", "postfix")
        self.ports = {name: free_port() for name in PORTS}
        listening = "".join(
            f"127.0.0.1:{self.ports[name]} inet n - n - - smtpd\n"
            + "".join(f"    -o {{ {option.replace('=', ' = ', 1)} }}\n" for option in options)
            for name, options in PORTS.items()
        )
        (self._config / "master.cf").write_text(
            f"""{listening}
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""
        )
        (self._config / "main.cf").write_text(
            f"""
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/mail.log
maillog_file_prefixes = {folder}
myhostname = mx.primary.example
mydestination = b.example
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = all
local_recipient_maps =
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
smtpd_data_restrictions = check_sender_access static:hold
notify_classes =
smtpd_authorized_xclient_hosts = 127.0.0.0/8
smtpd_authorized_xforward_hosts = 127.0.0.0/8
smtpd_discard_ehlo_keywords =
smtpd_tls_security_level = may
smtpd_tls_cert_file = {certificate.certificate}
smtpd_tls_key_file = {certificate.key}
smtpd_tls_auth_only = no
smtpd_sasl_type = dovecot
smtpd_sasl_path = {authority.socket}
smtpd_client_event_limit_exceptions = 127.0.0.0/8
smtputf8_enable = yes
"""
        )

    def start(self) -> Self:
        self.spawn([self._postfix, "-c", str(self._config), "start-fg"])
        for port in self.ports.values():
            self.wait_for_banner(port)
        return self

    def close(self) -> None:
        # Its daemons are in groups of their own and leave when the master tells them.
        if self.running:
            subprocess.run([self._postfix, "-c", str(self._config), "stop"], capture_output=True, check=False)
        super().close()

    def held(self, reply: str) -> dict[str, list[str]]:
        """The envelope of the message that was answered so: what Postfix wrote down, by name."""
        queued = re.search(r"queued as ([0-9A-F]+)", reply)
        assert queued is not None, reply
        shown = subprocess.run(
            [need("postcat"), "-c", str(self._config), "-e", "-q", queued[1]],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        found: dict[str, list[str]] = {}
        for line in shown.splitlines():
            name, colon, value = line.partition(": ")
            if name == "named_attribute":
                name, colon, value = value.partition("=")
            if colon:
                found.setdefault(name, []).append(value.strip())
        return found


@contextmanager
def postfix(certificate: Certificate) -> Iterator[Postfix]:
    """In folders that programs which give up root can still reach, as those of pytest cannot be."""
    with tempfile.TemporaryDirectory(prefix="inboundmx-", ignore_cleanup_errors=True) as folder, ExitStack() as ending:
        os.chmod(folder, 0o711)
        rooms = Path(folder) / "dovecot", Path(folder) / "postfix"
        for room in rooms:
            room.mkdir()
        authority = Authority(rooms[0])
        made = Postfix(rooms[1], authority, certificate)
        for child in (authority, made):
            ending.callback(child.close)
            child.start()
        yield made
