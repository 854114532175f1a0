"""``inboundmx explain ID``: the whole story of a message or a refusal. Knows where it is kept; ``ledger`` tells it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from inboundmx.cli.asking import CannotAsk, ask
from inboundmx.cli.configuration import Configuration
from inboundmx.cli.printing import complain, safe, say, say_json
from inboundmx.ledger.explaining import Event, instant, tell
from inboundmx.model.identity import made_at
from inboundmx.ports import Unavailable

# A running gateway writes its ledger in batches, five a second: what happened just now is there in a moment.
_YOUNG_SECONDS = 60.0
_PATIENCE_SECONDS = 5.0
_AGAIN_SECONDS = 0.2


def register(commands: Any) -> None:
    command = commands.add_parser(
        "explain",
        help="tell the whole story of a message or a refusal",
        description="Tells what was decided about a message or a refusal and why: who sent it, each check with its "
        "outcome and weight, the sums, the reply, each attempt to deliver it, and where it is now.",
    )
    command.add_argument("id", metavar="ID", help="the last word of a refusal, or the id in a log line or the spool")
    command.add_argument("--json", action="store_true", help="as one JSON object")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    config = Configuration(args.config)
    id = args.id.strip().lower()
    # The spool first: as root this makes us the owner of the files when they must be opened here.
    entries: list[dict[str, Any]] | None = None
    trouble = ""
    try:
        entries = ask(config, "spool.list", {"ids": [id]})
    except CannotAsk as error:
        trouble = str(error)
    events = story(Path(config.data), id, patient=not trouble)
    if not events and not entries:
        complain(f"nothing is known of {safe(id)}: no such id was given, or it is older than [log] keep")
        if trouble:
            complain(trouble)
        return 1
    if args.json:
        say_json(
            {
                "id": id,
                "events": [{"at": instant(e.at), "event": e.event, "fields": dict(e.fields)} for e in events],
                "now": entries,
            }
        )
        return 0
    say(*tell(id, events, entries, time.time()))
    if trouble:
        complain(trouble)
    return 0


def story(data: Path, id: str, *, patient: bool) -> list[Event]:
    """What is known of an id; ``patient``: one that was given just now is waited for. Raises CannotAsk."""
    events = _events(data, id)
    made = made_at(id)
    if patient and made is not None and abs(time.time() - made) < _YOUNG_SECONDS:
        patient_until = time.monotonic() + _PATIENCE_SECONDS
        while not events and time.monotonic() < patient_until:
            time.sleep(_AGAIN_SECONDS)
            events = _events(data, id)
    return events


def _events(data: Path, id: str) -> list[Event]:
    from inboundmx.storage.ledger import read_story

    try:
        return [Event(*row) for row in read_story(str(data), id)]
    except Unavailable as trouble:
        raise CannotAsk(trouble.reason) from None
