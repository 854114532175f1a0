"""Any sequence of changes, failures and restarts, against a model that is a dictionary."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from fakes.disk import Custody, a_deposit
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.model.custody import Change, Content, Deposit, SpoolEntry, State
from inboundmx.ports import StorageFull, Unavailable

# Thousands of syncs: not on a real disk.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

names = st.integers(0, 7)
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("commit"),
            st.sets(names, max_size=3),
            st.sets(names, max_size=2),
            st.sets(names, max_size=2),
            st.sampled_from([None, None, None, StorageFull("full"), Unavailable("trouble")]),
        ),
        st.tuples(st.just("remove_soon"), names),
        st.tuples(st.just("wait")),
        st.tuples(st.just("restart")),
    ),
    max_size=25,
)


class Model:
    """What must be shown. ``bodies``: two names share a body."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[SpoolEntry, Content]] = {}
        self.owed_adds: list[Deposit] = []
        self.count = 0

    def deposit(self, name: int) -> Deposit:
        self.count += 1
        pair = name // 2
        # What shares a body may be added only while it is the same: bodies are named by what is in them.
        return a_deposit(f"entry{name:04}{self.count:04}", bytes([65 + pair]) * 50, body_id=f"body{pair:08}")

    def named(self, name: int) -> str | None:
        return next((id for id in self.entries if id.startswith(f"entry{name:04}")), None)


def fail_with(custody: Custody, error: Exception | None) -> None:
    def refuse(changes: object) -> list[str]:
        assert error is not None
        raise error

    if error is None:
        custody.spool._file.__dict__.pop("_commit", None)
    else:
        custody.spool._file._commit = refuse  # type: ignore[method-assign]


@given(steps)
@settings(max_examples=60, deadline=None)
def test_it_shows_what_a_dictionary_would(sequence: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        custody, model = Custody(Path(folder)), Model()
        custody.open()
        for step, *arguments in sequence:
            if step == "commit":
                commit(custody, model, *arguments)
            elif step == "remove_soon":
                id = model.named(arguments[0]) or "absent000001"
                custody.spool.remove_soon(id)
                model.entries.pop(id, None)
            elif step == "wait":
                custody.clock.task.advance(7)
                written_late(model)
            else:
                custody.reopen()
                written_late(model)
            assert {entry.id: entry for entry in custody.spool.entries()} == {
                id: entry for id, (entry, _) in model.entries.items()
            }
        custody.reopen()
        written_late(model)
        assert {id: (custody.spool.entry(id), custody.content(id)) for id in custody.ids} == model.entries
        raw = custody.spool._file._connection
        assert raw is not None
        stored = {id for (id,) in raw.execute("SELECT id FROM body")}
        assert stored == {entry.body_id for entry, _ in model.entries.values()}
        custody.close()


def commit(
    custody: Custody, model: Model, added: set[int], updated: set[int], removed: set[int], error: Exception | None
) -> None:
    deposits = tuple(model.deposit(name) for name in sorted(added) if model.named(name) is None)
    remove = tuple(id for name in sorted(removed) if (id := model.named(name)))
    update = tuple(
        replace(model.entries[id][0], attempts=model.count, state=State.HELD, next_attempt_at=None)
        for name in sorted(updated - removed)
        if (id := model.named(name))
    )
    fail_with(custody, error)
    (answer,) = custody.commit(Change(deposits, update, remove))
    fail_with(custody, None)
    assert answer is error
    if error is None:
        written_late(model)
        show(model, deposits)
    elif update or remove:
        model.owed_adds += deposits
    for entry in update:
        model.entries[entry.id] = (entry, model.entries[entry.id][1])
    for id in remove:
        del model.entries[id]


def show(model: Model, deposits: tuple[Deposit, ...] | list[Deposit]) -> None:
    model.entries.update({d.entry.id: (d.entry, d.content) for d in deposits})


def written_late(model: Model) -> None:
    show(model, model.owed_adds)
    model.owed_adds = []
