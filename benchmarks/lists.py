"""What a look-up in an operator's lists costs: ``python -m benchmarks.lists [ENTRIES]``.

The real lists and their file, without sockets: as many entries as are asked for are kept in one change, read by another
process' eyes, and then asked as mail would ask. CPU time of the process, the least of several runs.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from ipaddress import IPv4Address

from inboundmx.intake.live_lists import MOST_ENTRIES
from inboundmx.model.address import Address
from inboundmx.model.listing import Difference, Listed
from inboundmx.model.settings import ListsSettings
from inboundmx.policy.listing import Joined, Listing, written_entries
from inboundmx.storage.lists_file import NAME, ListsFile

LOOK_UPS = 20_000
RUNS = 5


def entries(count: int) -> list[Listed]:
    """Half of them clients, of which one in ten is a network; half senders, of which one in ten is a domain."""
    found = []
    for number in range(count // 2):
        address = IPv4Address(0x0B000000 + 256 * number)
        client = f"{address}/24" if number % 10 == 0 else str(address)
        sender = f"*@bad{number}.example" if number % 10 == 0 else f"sender{number}@mail{number % 977}.example"
        found.append(Listed("blacklist", client, (), "a benchmark", "nobody", 1.0))
        found.append(Listed("blocked-sender", sender, (), "a benchmark", "nobody", 1.0))
    return found


def microseconds(look: Callable[[int], object]) -> float:
    least = float("inf")
    for _ in range(RUNS):
        began = time.process_time()
        for number in range(LOOK_UPS):
            look(number)
        least = min(least, time.process_time() - began)
    return round(least / LOOK_UPS * 1e6, 2)


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return round(time.process_time() - began, 2)


def measure(folder: str, count: int) -> dict[str, object]:
    kept = ListsFile(folder)
    written = seconds(lambda: kept.change(entries(count), (), 1.0))
    another = ListsFile(folder)
    told: list[Difference] = []
    read = seconds(lambda: told.extend(another.look(1.0).differences))
    live = Listing()
    filled = seconds(lambda: [live.add(each.come) for each in told if each.come is not None])
    one_more = seconds(lambda: kept.change([Listed("blacklist", "192.0.2.1")], (), 1.0))
    lists = Joined(Listing(entry for _, entry in written_entries(ListsSettings())), live)
    # As many different ones as a busy gateway sees before they come again.
    clients = [str(IPv4Address(0x0B000000 + 101 * number)) for number in range(LOOK_UPS)]
    senders = [Address(f"s{number}", f"mail.host{number}.example") for number in range(LOOK_UPS)]
    return {
        "entries": len(told),
        "file_octets": os.path.getsize(os.path.join(folder, NAME)),
        "cpu_s": {"write_all": written, "read_all": read, "fill": filled, "one_more": one_more},
        "cpu_us": {
            "client": microseconds(lambda number: lists.blacklisted(clients[number])),
            "the_same_client": microseconds(lambda number: lists.blacklisted("203.0.113.9")),
            "sender": microseconds(lambda number: lists.sender(senders[number], (senders[number].domain,))),
        },
    }


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MOST_ENTRIES
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(json.dumps(measure(folder, count), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
