"""What the checks cost when nobody was ever seen before: each letter is of another client and another, signed, domain.

A gateway with SPF, DKIM, DMARC, three lists and greylisting, beside stock Postfix without any checks and beside Postfix
with rspamd, each fed the same letters over a local nsd. Before each repeat whatever remembers answers is started anew;
only the greylist, which is on disk, knows the strangers, for they came once before and were put off.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.figures import Figures, medians
from benchmarks.load import Plan, content, stranger
from benchmarks.own_network import in_own_network
from benchmarks.peers import Failed, NotHere, Ours, Peer, Postfix
from benchmarks.rspamd import PostfixWithRspamd
from benchmarks.scenarios import Effort, forward, load, turns
from benchmarks.services import (
    BLOCK,
    LISTS,
    STRANGER,
    Nsd,
    Signer,
    first_opinions,
    outcomes,
    text_row,
)

LETTERS = 600
# By which whoever was started anew is warm, and nothing is known of those that are measured.
FIRST_LETTERS = 50
SESSIONS = 10
EXPECTED = {"spf": "pass", "dkim": "pass", "dmarc": "pass", "greylist": "passed known"} | {
    f"list{number}": "absent" for number in range(len(LISTS))
}


def letters(folder: Path, count: int) -> Signer:
    """``count`` of them, each signed by the domain it is from. All have one key: what differs is who publishes it."""
    folder.mkdir()
    first = Signer(stranger(0)[1])
    plain = content(4096)[:-3]
    for number in range(count):
        domain = stranger(number)[1]
        letter = plain.replace(STRANGER.encode(), domain.encode())
        (folder / str(number)).write_bytes(Signer(domain, first.selector, first.key).signed(letter))
    return first


def authority(folder: Path, signer: Signer, count: int) -> Nsd:
    """For all strangers, for lists that know none of them, and for everything else: there is no such name."""
    rows, names = [], []
    for number in range(count):
        address, domain = stranger(number)
        label = domain.partition(".")[0]
        rows += [
            f"{label} {text_row(f'v=spf1 include:_spf.{domain} -all')}",
            f"_spf.{label} {text_row(f'v=spf1 ip4:203.0.113.0/24 ip4:{address} ~all')}",
            f"mail.{label} A {address}",
            f"_dmarc.{label} {text_row('v=DMARC1; p=reject')}",
            f"{signer.selector}._domainkey.{label} {text_row(signer.record)}",
        ]
        third, fourth = address.split(".")[2:]
        names.append(f"{fourth}.{third} PTR mail.{domain}.")
    zones = {"cold.example": "\n".join(rows), "18.198.in-addr.arpa": "\n".join(names), ".": ""}
    return Nsd(folder, zones | dict.fromkeys(LISTS, "2.0.0.127 A 127.0.0.2"))


def end_to_end(effort: Effort, folder: Path) -> dict[str, Any]:
    count = max(60, int(LETTERS * effort.scale))
    everybody, strangers = count + FIRST_LETTERS, str(folder / "letters")
    signer = letters(folder / "letters", everybody)
    nsd = authority(folder / "nsd", signer, everybody)
    peers: dict[str, Peer] = {}
    every: dict[str, list[Figures]] = {}
    notes = []
    left_out = {}
    trouble = []
    try:
        ours = Ours(folder / "checks", "cut-through", first_opinions(nsd.port))
        peers["inboundmx, checks"] = ours
        try:
            peers["postfix"] = Postfix(folder / "postfix")
            peers["postfix, rspamd"] = PostfixWithRspamd(folder / "filtered", nsd.port)
        except NotHere as reason:
            left_out["postfix, rspamd" if "postfix" in peers else "postfix"] = str(reason)
        except Failed as reason:
            trouble.append(str(reason))
        # They come, are put off, and may come again.
        load(Plan(ours.port, SESSIONS, everybody, strangers=strangers))
        time.sleep(BLOCK)
        for name in turns(peers, effort.repeats):
            peer = peers[name]
            if isinstance(peer, Ours):
                peer.halt()
                peer.start()
            elif isinstance(peer, PostfixWithRspamd):
                peer.forget()
            forward(peer, SESSIONS, FIRST_LETTERS, strangers=strangers, first=count)
            every.setdefault(name, []).append(forward(peer, SESSIONS, count, strangers=strangers))
        # The log is written a little later.
        time.sleep(0.5)
        asked, wrong = outcomes(folder / "checks" / "gateway.log", EXPECTED)
    finally:
        for peer in peers.values():
            peer.stop()
        nsd.stop()
    notes.append(
        f"of {asked} letters handed over {f'all but {wrong}' if wrong else 'all'} had the outcomes expected: "
        "SPF and DKIM passed, no list knew the client"
    )
    return {
        "scenario": "checks cold",
        "what": f"{SESSIONS} sessions, {count} signed 4 KB messages, each of a client and a domain never asked about",
        "figures": medians(every),
        "every": every,
        "notes": notes,
        "left_out": left_out,
        "trouble": trouble,
        "compare": [["inboundmx, checks", "postfix"], ["inboundmx, checks", "postfix, rspamd"]],
    }


def measured(effort: Effort, folder: Path) -> list[dict[str, Any]]:
    return [in_own_network(end_to_end, effort, folder)]
