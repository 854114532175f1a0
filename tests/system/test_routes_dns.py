"""Routes by what a real name server says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from name_servers import Nsd

# Asked for one after the other, these would all be tried in the same order once in eight million runs.
EQUAL = [f"equal{n}.test" for n in range(24)]
HOSTS = """\
ns A 127.0.0.1
mx1 A 192.0.2.10
mx1 AAAA 2001:db8::10
mx2 A 198.51.100.1
mx3 A 203.0.113.3
mx3 A 203.0.113.4
alias CNAME mx1
local A 127.0.0.1
local AAAA ::1
mapped AAAA ::ffff:127.0.0.1
v6only AAAA 2001:db8::6
"""
# Of elsewhere.example this server says nothing: REFUSED, as a broken delegation would be.
ZONES = {
    "zone.test": HOSTS,
    "plain.test": "@ MX 20 mx3.zone.test.\n@ MX 10 MX1.Zone.Test.",
    "implicit.test": "@ A 192.0.2.77\n@ AAAA 2001:db8::77",
    "null.test": "@ MX 0 .\n@ A 192.0.2.77",
    "empty.test": '@ TXT "no mail"',
    "alias.test": "@ MX 10 alias.zone.test.\n@ MX 20 mx3.zone.test.",
    "onlyalias.test": "@ MX 10 alias.zone.test.",
    "gone.test": "@ MX 10 nobody.zone.test.",
    "home.test": "@ MX 10 local.zone.test.\n@ MX 20 mapped.zone.test.",
    "half.test": "@ MX 10 mx.elsewhere.example.\n@ MX 20 mx3.zone.test.",
    "broken.test": "@ MX 10 mx.elsewhere.example.",
    "loop.test": "@ MX 10 mx2.zone.test.\n@ MX 20 mx3.zone.test.",
    "backed.test": "@ MX 10 mx1.zone.test.\n@ MX 15 mx3.zone.test.\n@ MX 20 mx2.zone.test.",
    "worse.test": "@ MX 10 mx2.zone.test.\n@ MX 20 mx1.zone.test.",
    "others.test": "@ MX 10 mx3.zone.test.\n@ MX 20 mx2.zone.test.",
    "unknown.test": "@ MX 10 mx.elsewhere.example.\n@ MX 20 mx2.zone.test.",
    **dict.fromkeys(EQUAL, "@ MX 10 v6only.zone.test.\n@ MX 10 mx1.zone.test."),
    "huge.test": "\n".join(f"@ MX {n + 1} h{n}\nh{n} A 203.0.113.{n}" for n in range(200)),
}
DENIED = "550 5.7.1 relaying denied: no such domain here"
MX1 = ["[2001:db8::10]:25 mx1.zone.test", "192.0.2.10:25 mx1.zone.test"]
MX3 = ["203.0.113.3:25 mx3.zone.test", "203.0.113.4:25 mx3.zone.test"]
CAME: dict[str, Any] = {
    "outbound/plain.test": [*MX1, *MX3],
    "outbound/implicit.test": ["[2001:db8::77]:25 implicit.test", "192.0.2.77:25 implicit.test"],
    "outbound/null.test": "556 5.1.10 the domain of this address takes no mail",
    "outbound/nowhere.zone.test": "550 5.1.2 the domain of this address does not exist",
    "outbound/empty.test": "550 5.4.4 no mail server of the domain has an address that mail can be sent to",
    "outbound/gone.test": "550 5.4.4 no mail server of the domain has an address that mail can be sent to",
    "outbound/home.test": "550 5.4.4 no mail server of the domain has an address that mail can be sent to",
    "outbound/alias.test": MX3,
    "outbound/onlyalias.test": ["[2001:db8::10]:25 alias.zone.test", "192.0.2.10:25 alias.zone.test"],
    "outbound/half.test": MX3,
    "outbound/broken.test": "unavailable",
    "outbound/elsewhere.example": "unavailable",
    "outbound/loop.test": "554 5.4.6 we are the best mail server of the domain ourselves: mail for it would loop",
    "outbound/backed.test": [*MX1, *MX3],
    "outbound/huge.test": [f"203.0.113.{n}:25 h{n}.huge.test" for n in range(10)],
    "backup/backed.test": ["[2001:db8::10]:25 ", "192.0.2.10:25 "],
    "backup/worse.test": DENIED,
    "backup/others.test": DENIED,
    "backup/plain.test": DENIED,
    "backup/null.test": DENIED,
    "backup/nowhere.zone.test": DENIED,
    "backup/half.test": DENIED,
    "backup/unknown.test": "unavailable",
    "backup/elsewhere.example": "unavailable",
    "backup/huge.test": DENIED,
}


@pytest.fixture(scope="module")
def nsd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nsd]:
    made = Nsd(tmp_path_factory.mktemp("nsd"), ZONES).start()
    yield made
    made.close()


def find(nsd: Nsd, *wanted: str) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).parent / "routes_child.py"), str(nsd.port), *wanted]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert isinstance(told, dict)
    return told


def test_where_mail_goes_by_a_real_name_server(nsd: Nsd) -> None:
    told = find(nsd, *CAME)
    for came in told.values():
        # Addresses of one name come in any order.
        if isinstance(came, list) and came[-2:] == MX3[::-1]:
            came[-2:] = MX3
    assert told == CAME


def test_equal_preferences_are_tried_in_either_order(nsd: Nsd) -> None:
    told = find(nsd, *(f"outbound/{name}" for name in EQUAL))
    assert {came[0] for came in told.values()} == {"[2001:db8::6]:25 v6only.zone.test", MX1[0]}
