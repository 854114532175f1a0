"""What the Bayesian filter was trained with: one SQLite file, in which every message is the set of its words' numbers.

Knows that the same message counts once, that the newest of each kind are kept, and how the model is made of them. Does
not know words, mail, nor what is made of the counts.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress
from operator import add
from typing import Literal, NamedTuple

import sqlite_utils

from inboundmx.ports import Unavailable
from inboundmx.storage import bayes_model
from inboundmx.storage.bayes_model import OCTETS_OF_WORD, SECRET_OCTETS
from inboundmx.storage.disk import refuse_odd, unavailable
from inboundmx.storage.sqlite_file import USUAL, prepared, transaction

FILE_NAME = "bayes.sqlite"
# Messages of each kind that are kept, the newest: mail changes, and so does what tells spam from it.
MOST_OF_KIND = 10_000
# The words are counted in so many parts, one after the other, which takes so much less memory.
PARTS = 32
# Numbers that are counted in one go: other threads get their turn in between.
AT_ONCE = 50_000
# Other processes train as well, and each for a moment.
_BUSY_SECONDS = 10.0

Outcome = Literal["learned", "moved", "known", "forgotten", "unknown"]


class Lesson(NamedTuple):
    """One message: what tells it from others, and the numbers of its words, in ascending order ("q")."""

    identity: bytes
    numbers: array[int]


class Totals(NamedTuple):
    """Messages kept of each kind; ``fresh``: how many came or went since the model was made."""

    spam: int
    ham: int
    fresh: int


class BayesFile:
    """``DATA/bayes.sqlite`` and the model beside it. Blocks: for commands, and for Offload. All methods raise
    Unavailable. ``secret`` is what words are hashed with."""

    def __init__(self, data_folder: str) -> None:
        self._folder = data_folder
        self._path = os.path.join(data_folder, FILE_NAME)
        with self._trouble():
            self._connection = _open(self._path)
            (self.secret,) = self._connection.execute("SELECT secret FROM site").fetchone()

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def learn(self, lessons: Iterable[Lesson], spam: bool, now: float) -> list[Outcome]:
        """Of each: it is new, was of the other kind before, or known already. In one transaction."""
        outcomes: list[Outcome] = []
        connection = self._connection
        with self._trouble(), transaction(connection):
            for identity, numbers in lessons:
                row = connection.execute("SELECT spam FROM message WHERE identity = ?", (identity,)).fetchone()
                outcomes.append("learned" if row is None else "known" if row[0] == spam else "moved")
                if outcomes[-1] != "known":
                    connection.execute(
                        "INSERT OR REPLACE INTO message (identity, spam, learned_at, numbers) VALUES (?, ?, ?, ?)",
                        (identity, int(spam), now, numbers.tobytes()),
                    )
            fresh = len(outcomes) - outcomes.count("known")
            connection.execute("UPDATE site SET fresh = fresh + ?", (fresh,))
            connection.execute(
                "DELETE FROM message WHERE rowid IN (SELECT rowid FROM message WHERE spam = ?"
                " ORDER BY learned_at DESC, rowid DESC LIMIT -1 OFFSET ?)",
                (int(spam), MOST_OF_KIND),
            )
        return outcomes

    def forget(self, identities: Iterable[bytes]) -> list[Outcome]:
        connection = self._connection
        delete = "DELETE FROM message WHERE identity = ?"
        with self._trouble(), transaction(connection):
            outcomes: list[Outcome] = [
                "forgotten" if connection.execute(delete, (identity,)).rowcount else "unknown"
                for identity in identities
            ]
            connection.execute("UPDATE site SET fresh = fresh + ?", (outcomes.count("forgotten"),))
        return outcomes

    def totals(self) -> Totals:
        with self._trouble():
            return self._totals()

    def newest(self, most_of_kind: int) -> Iterator[tuple[bool, array[int]]]:
        """Messages kept, the newest of each kind: whether it is spam, and the numbers of its words."""
        with self._trouble():
            for spam in (0, 1):
                yield from (
                    (bool(spam), _numbers(octets))
                    for (octets,) in self._connection.execute(
                        "SELECT numbers FROM message WHERE spam = ? ORDER BY learned_at DESC, rowid DESC LIMIT ?",
                        (spam, most_of_kind),
                    )
                )

    def renew(self, max_memory: int) -> int:
        """Makes the model anew, of at most so many octets: where there are too many words, those that were in the most
        messages. How many there are."""
        # Nobody else makes one at the same time, and nothing comes while words are counted.
        with self._trouble(), transaction(self._connection):
            totals = self._totals()
            words = _most_frequent(self._counted(), max_memory // OCTETS_OF_WORD)
            path = os.path.join(self._folder, bayes_model.FILE_NAME)
            bayes_model.write(path, self.secret, (totals.spam, totals.ham), words)
            self._connection.execute("UPDATE site SET fresh = 0")
        return len(words[0])

    def _totals(self) -> Totals:
        spam, ham = (
            self._connection.execute("SELECT count(*) FROM message WHERE spam = ?", (kind,)).fetchone()[0]
            for kind in (1, 0)
        )
        (fresh,) = self._connection.execute("SELECT fresh FROM site").fetchone()
        return Totals(spam, ham, fresh)

    def _counted(self) -> tuple[array[int], array[int], array[int]]:
        """All words in ascending order, and in how many messages of spam and of ham each was."""
        numbers, in_spam, in_ham = array("q"), array("I"), array("I")
        width = 2**64 // PARTS
        for part in range(PARTS):
            low = -(2**63) + part * width
            counters: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
            several = (array("q"), array("q"))
            for spam, octets in self._connection.execute("SELECT spam, numbers FROM message"):
                of_message = memoryview(octets)[: len(octets) // 8 * 8].cast("q")
                start = bisect_left(of_message, low)
                end = bisect_left(of_message, low + width) if part < PARTS - 1 else len(of_message)
                several[spam].frombytes(of_message[start:end].tobytes())
                if len(several[spam]) >= AT_ONCE:
                    counters[spam].update(several[spam])
                    del several[spam][:]
            for counter, rest in zip(counters, several, strict=True):
                counter.update(rest)
            of_ham, of_spam = counters
            ordered = sorted(of_ham.keys() | of_spam.keys())
            numbers.extend(ordered)
            in_spam.extend([of_spam.get(number, 0) for number in ordered])
            in_ham.extend([of_ham.get(number, 0) for number in ordered])
        return numbers, in_spam, in_ham

    @contextlib.contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise Unavailable(f"{self._path}: {error}") from None
        except OSError as error:
            raise unavailable(error) from None


def _numbers(octets: bytes) -> array[int]:
    numbers = array("q")
    # What is left of a damaged row counts for what it is.
    numbers.frombytes(octets[: len(octets) // 8 * 8])
    return numbers


def _most_frequent(
    words: tuple[array[int], array[int], array[int]], most: int
) -> tuple[array[int], array[int], array[int]]:
    if len(words[0]) <= most:
        return words
    often = array("I", map(add, words[1], words[2]))
    least, room = _least(often, most)
    # The rarest that are kept are some of many: the first are as good as any, for numbers are as if drawn by lot.
    kept = bytearray(count > least for count in often)
    at = -1
    for _ in range(room):
        at = often.index(least, at + 1)
        kept[at] = 1
    numbers, in_spam, in_ham = (array(column.typecode, compress(column, kept)) for column in words)
    return numbers, in_spam, in_ham


def _least(often: Sequence[int], most: int) -> tuple[int, int]:
    """How often the rarest words that are kept were seen, and how many of those there is room for."""
    of_count = sorted(Counter(often).items(), reverse=True)
    for count, number in of_count:
        if number > most:
            return count, most
        most -= number
    return 0, 0


def _open(path: str) -> sqlite3.Connection:
    """The file, made if it is not there."""
    refuse_odd(path)
    # Nobody but its owner reads what mail people have.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, check_same_thread=False, timeout=_BUSY_SECONDS, isolation_level=None)
    return prepared(connection, path, (*USUAL, "journal_size_limit=8388608"), (_to_1,))


def _to_1(database: sqlite_utils.Database) -> None:
    columns = {"identity": bytes, "spam": int, "learned_at": float, "numbers": bytes}
    database.create_table("message", columns, pk="identity", if_not_exists=True)
    database.execute("CREATE INDEX IF NOT EXISTS message_kind ON message(spam, learned_at)")
    database.create_table("site", {"id": int, "secret": bytes, "fresh": int}, pk="id", if_not_exists=True)
    # Another process may be at it as well: one secret holds.
    database.execute("INSERT OR IGNORE INTO site VALUES (1, ?, 0)", (os.urandom(SECRET_OCTETS),))
