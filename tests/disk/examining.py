"""What becomes of mail on a disk as a power cut left it. Knows what was promised; does not know how the state came
about."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Collection, Mapping
from pathlib import Path

from fakes.disk import Custody, a_deposit, add, result

from inboundmx.model.custody import Content
from inboundmx.ports import Damaged, Fact, Unavailable
from inboundmx.storage.ledger import Ledger, read_story
from inboundmx.storage.state import SqliteStateStore
from inboundmx.storage.writer import InlineLane, at_once

_NEW = "0after00000000"


def faults(data: Path, promised: Collection[str], digests: Mapping[str, bytes], sent: Collection[bytes]) -> list[str]:
    """What is wrong with a gateway that starts on the data folder: nothing, or sentences. ``promised``: ids that must
    be there; ``digests``: of all that have one; ``sent``: of everything that was offered."""
    custody = Custody(data)
    try:
        custody.open()
    except Exception as trouble:  # whatever it is, it must not happen
        return [f"it does not start: {trouble!r}"]
    wrong = [f"{id} is lost" for id in promised if custody.spool.entry(id) is None]
    for id in custody.ids:
        content = custody.content(id)
        if isinstance(content, Content):
            expected = digests.get(id)
            if content.body.digest not in sent or expected not in (None, content.body.digest):
                wrong.append(f"{id} would be delivered altered")
        elif not isinstance(content, Damaged):
            wrong.append(f"{id} cannot be read: {content!r}")
        elif id in promised:
            wrong.append(f"{id} is damaged: {content}")
    if custody.commit(add(a_deposit(_NEW))) != [None]:
        wrong.append("it takes no mail")
    custody.close()
    custody.open()
    if custody.spool.entry(_NEW) is None:
        wrong.append("it forgets what it took")
    custody.close()
    return wrong + _forgetful(custody)


def _forgetful(custody: Custody) -> list[str]:
    """Of the two files that hold no mail: whatever they are like, they are used again."""
    reported: list[str] = []
    told = lambda event, fields: reported.append(event)  # noqa: E731
    data, clock = str(custody.data), custody.clock
    state = SqliteStateStore(data, clock, at_once, told, lambda name: InlineLane())
    state.put("space", "key", Fact((1.0,), clock.now(), clock.now() + 1000))
    clock.task.advance(31)
    state._known.clear()
    wrong = []
    try:
        state.get("space", "key").send(None)
    except StopIteration as found:
        if found.value is None:
            wrong.append(f"the state store forgets: {reported}")
    except Unavailable as trouble:
        wrong.append(f"the state store is not readable: {trouble.reason}")
    result(state.close())
    ledger = Ledger(
        data, "0", keep=1e6, keep_size=1 << 30, clock=clock, report=told, from_thread=at_once,
        lane=lambda name: InlineLane(),
    )  # fmt: skip
    ledger.add(clock.now(), "story0000001", "refused", "{}")
    result(ledger.close())
    with contextlib.suppress(Unavailable, sqlite3.Error):
        if read_story(data, "story0000001"):
            return wrong
    return [*wrong, f"the ledger keeps nothing: {reported}"]


def fresh(folder: Path) -> Path:
    """The folder, empty, whatever was in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder
