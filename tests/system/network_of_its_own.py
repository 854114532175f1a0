"""A network for one module of tests: addresses of a whole world on a loopback of its own, where port 25 is free.

Mail that leaves the gateway goes to port 25 of addresses that are not loopback. Here every address of WORLD answers, or
refuses, as if it were a host of its own, and none of them is known to the kernel as ours but OURS. Knows namespaces and
the loopback; does not know who listens. The thread that enters takes along every child and every thread it starts.
Nothing has to be cleaned away: the network ends with the last process in it.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from programs import need
from requiring import impossible

# By these the kernel knows us, and from these connections come.
OURS, OURS_SIX = "203.0.113.1", "2001:db8:1::1"
WORLD = ("192.0.2.0/24", "198.51.100.0/24")
WORLD_SIX = "2001:db8:2::/48"

_NEWNET = 0x40000000


def _call(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), name)


def _ip(*arguments: str) -> None:
    subprocess.run([need("ip"), *arguments], check=True, capture_output=True)


@contextmanager
def network_of_its_own() -> Iterator[None]:
    """For the calling thread. Skips, or fails, where the system does not allow it."""
    need("ip")
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        try:
            _call("unshare", _NEWNET)
        except OSError as trouble:
            impossible(f"no network namespace can be made here: {trouble.strerror}")
        try:
            _ip("link", "set", "lo", "up")
            _ip("addr", "add", f"{OURS}/32", "dev", "lo")
            for network in WORLD:
                _ip("route", "add", "local", network, "dev", "lo", "src", OURS)
            _ip("-6", "addr", "add", f"{OURS_SIX}/128", "dev", "lo", "nodad")
            _ip("-6", "route", "add", "local", WORLD_SIX, "dev", "lo", "src", OURS_SIX)
            # IPv6 insists on addresses of interfaces where IPv4 is content with routes.
            Path("/proc/sys/net/ipv6/ip_nonlocal_bind").write_text("1")
            yield
        finally:
            _call("setns", before, _NEWNET)
    finally:
        os.close(before)
