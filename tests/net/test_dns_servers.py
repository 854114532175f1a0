"""Which servers are asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from inboundmx.net.dns_servers import name_servers
from inboundmx.net.dns_transport import Server


def test_as_written() -> None:
    written = ("192.0.2.1", "192.0.2.1:5353", "2001:db8::1", "[2001:db8::1]:5353")
    found = name_servers(written)

    assert found == (
        Server("192.0.2.1"), Server("192.0.2.1", 5353), Server("2001:db8::1"), Server("2001:db8::1", 5353),
    )  # fmt: skip
    assert tuple(map(str, found)) == written


@pytest.mark.parametrize("written", ["ns.example", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:70000", ""])
def test_anything_else_is_refused(written: str) -> None:
    with pytest.raises(ValueError):
        name_servers([written])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("# local\nsearch a.test\nnameserver 192.0.2.1\nnameserver\t2001:db8::1 # x\n", ["192.0.2.1", "2001:db8::1"]),
        ("nameserver fe80::1%eth0\nnameserver nonsense\nnameserver 192.0.2.1\nnameserver 192.0.2.1\n",
         ["fe80::1%eth0", "192.0.2.1"]),
        ("".join(f"nameserver 192.0.2.{last}\n" for last in range(1, 9)), ["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
        ("search a.test\n", ["127.0.0.1"]),
    ],
)  # fmt: skip
def test_the_machines_own(tmp_path: Path, text: str, found: list[str]) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(text)

    assert name_servers(["system"], str(file)) == tuple(map(Server, found))


def test_the_machine_itself_where_nothing_is_said(tmp_path: Path) -> None:
    assert name_servers(["system"], str(tmp_path / "none")) == (Server("127.0.0.1"),)
