"""``inboundmx walk FILE``: whom a message behind bypass gateways would be judged as coming from. Changes nothing."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from inboundmx.cli.asking import CannotAsk, ask
from inboundmx.cli.configuration import Configuration
from inboundmx.cli.printing import safe, say, say_json
from inboundmx.model.ip import ip_of
from inboundmx.model.listing import Listed
from inboundmx.model.message import HEADER_LIMIT, Body, Message
from inboundmx.policy.listing import Listing
from inboundmx.policy.walking import Step, walk

_MOST_GATEWAYS = 10_000


def register(commands: Any) -> None:
    command = commands.add_parser(
        "walk",
        help="say whom a message that came through a gateway of ours is judged as coming from",
        description="Reads a message, walks through the Received fields of bypass gateways as at its reception, and "
        "prints the client that checks of an address and the blacklist would judge. Nothing is sent or changed.",
    )
    command.add_argument("file", metavar="FILE", help="the message as the gateway passed it to us; - is standard input")
    command.add_argument(
        "--from", dest="peer", metavar="ADDRESS", required=True, help="the address it came to us from: the gateway's"
    )
    command.add_argument("--json", action="store_true", help="as one JSON object")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    peer = ip_of(args.peer)
    if peer is None:
        raise CannotAsk(f"--from {args.peer} is no IP address", usage=True)
    message = _message(args.file)
    config = Configuration(args.config)
    rows = ask(config, "lists.list", {"kind": "bypass-gateway", "limit": _MOST_GATEWAYS})
    gateways = Listing(Listed("bypass-gateway", row["value"]) for row in rows)
    known = gateways.bypasses(str(peer))
    through = walk(message, str(peer), gateways.bypasses) if known else None
    address = str(peer) if through is None else through.address
    entries = _blacklisted(config, address) if address else []
    steps = () if through is None else through.steps
    if args.json:
        say_json(
            {
                "gateway": known,
                "address": address or None,
                "helo": (through.hello if through is not None else "") or None,
                "steps": [step._asdict() for step in steps],
                "blacklist": entries,
            }
        )
        return 0
    if not known:
        say(f"{peer} is no bypass gateway: it is judged itself, whatever the message says")
    say(*map(_told, steps))
    if not address:
        say("no client is found: no address is judged")
    elif known and through is not None:
        helo = f", HELO {safe(through.hello)}" if through.hello else ""
        say(f"judged: {address}{helo}")
    if entries:
        say(f"on the blacklist: {', '.join(entries)}")
    return 0


def _blacklisted(config: Configuration, address: str) -> list[str]:
    rows = ask(config, "lists.list", {"kind": "blacklist", "matching": address})
    # Rows whose reason holds the address match as well.
    return [row["value"] for row in rows if Listing([Listed("blacklist", row["value"])]).blacklisted(address)]


def _told(step: Step) -> str:
    said = f" from {step.address}{f' (HELO {step.hello})' if step.hello else ''}" if step.address else ""
    return safe(f"at {step.by}{said}: {step.why}, {'believed' if step.believed else 'not believed'}")


def _message(name: str) -> Message:
    try:
        if name == "-":
            head = sys.stdin.buffer.read(HEADER_LIMIT)
        else:
            with open(name, "rb") as file:
                head = file.read(HEADER_LIMIT)
    except OSError as error:
        raise CannotAsk(f"{name} cannot be read: {error.strerror or error}") from None
    # Files on this side of the wire mostly end their lines with LF alone.
    head = head.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return Message("", Body(len(head), head, None, b""))
