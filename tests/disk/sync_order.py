"""Whether a promise came after the disk's word, in a trace. Knows the calls that keep a message, and their order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from traced import promises
from traces import Call

# A frame of SQLite's log begins with so many octets; its second number is not 0 where a transaction ends.
_FRAME = 24


def broken_promises(calls: Sequence[Call]) -> dict[str, str]:
    """From each id that was answered 250 to what was not done before that; empty where all was."""
    return {id: _missing(calls, id, call) for call in calls for id in promises(call)}


def _missing(calls: Sequence[Call], id: str, promise: Call) -> str:
    before = [call for call in calls if call.paths and call.ended < promise.begun and not call.pretended]
    name = id.encode()
    rows = [call for call in before if call.writes and _of_log(call) and name in call.data]
    if not rows:
        return "nothing was written for it"
    row = rows[0]
    end = next((call for call in before if call.begun > row.ended and _ends_transaction(call, row)), None)
    if end is None:
        return "its transaction was not ended"
    if not any(_syncs(call, end.paths[0], end) for call in before):
        return "the log was not synced after it"
    file = [call for call in before if call.writes and call.paths[0].endswith(f"/incoming/{id}")]
    if file:
        return _missing_of_file(before, file[-1], row)
    # A page with no more than a part of it may have been written before.
    packed = next(((pack, row) for row in rows if (pack := pack_of(id, row))), None)
    return _missing_of_pack(before, *packed) if packed else ""


def pack_of(id: str, row: Call) -> str:
    """The name of the file that a body shares with others, from what is written of its row; empty when it has none."""
    # Between them stand its size, its digest and the first of its path.
    found = re.search(id.encode() + rb".{33,60}?/bodies/([0-9a-z]+)#[0-9]", row.data, re.DOTALL)
    return found[1].decode() if found else ""


def _missing_of_pack(before: Iterable[Call], pack: str, row: Call) -> str:
    done = [call for call in before if call.ended < row.begun]
    last = [call for call in done if call.writes and call.paths[0].endswith(f"/bodies/{pack}")]
    if not last:
        return "the file that it shares was not written before its row"
    path = last[-1].paths[0]
    if not any(_syncs(call, path, last[-1]) for call in done):
        return "the file that it shares was not synced before its row was written"
    made = next(call for call in done if call.name == "openat" and path in call.paths)
    folder = path.rpartition("/")[0]
    return "" if any(_syncs(call, folder, made) for call in done) else "the folder of the file that it shares was not"


def _missing_of_file(before: Iterable[Call], last: Call, row: Call) -> str:
    done = [call for call in before if call.ended < row.begun]
    synced = next((call for call in done if _syncs(call, last.paths[0], last)), None)
    if synced is None:
        return "its file was not synced before its row was written"
    renames = (call for call in done if call.name == "rename" and call.paths[0] == last.paths[0])
    moved = next((call for call in renames if call.begun > synced.ended), None)
    if moved is None:
        return "its file was not moved between its sync and its row"
    folder = moved.paths[1].rpartition("/")[0]
    return "" if any(_syncs(call, folder, moved) for call in done) else "the folder of its file was not synced"


def _of_log(call: Call) -> bool:
    return "/spool/" in call.paths[0] and call.paths[0].endswith("-wal")


def _ends_transaction(call: Call, row: Call) -> bool:
    return call.writes and call.paths[0] == row.paths[0] and len(call.data) == _FRAME and any(call.data[4:8])


def _syncs(call: Call, path: str, written: Call) -> bool:
    return call.syncs and call.result == 0 and call.paths[0] == path and call.begun > written.ended
