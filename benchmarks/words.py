"""How well the Bayesian filter judges mail it has not seen, and how fast: ``python -m benchmarks.words HAM SPAM``.

Mail of both kinds is dealt into halves; the filter is trained with one and judges the other, both ways round, several
times over. HAM and SPAM are what ``inboundmx train`` takes. CPU time, the least of several turns.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from inboundmx.checks.bayes import Bayes
from inboundmx.model.message import SMALL_BODY, Body, Message
from inboundmx.policy.bayesian import Counted, likeness
from inboundmx.policy.mime import walk
from inboundmx.policy.mime_text import text
from inboundmx.policy.tokens import tokens
from inboundmx.storage.bayes import BayesFile, Lesson
from inboundmx.storage.bayes_model import FILE_NAME, Model
from inboundmx.storage.lessons import LARGEST, lesson
from inboundmx.storage.mail_files import messages

OPTIONS = {option.name: option.default for option in Bayes.options}
TURNS = 20
WORDS = 1000


class Half(NamedTuple):
    """``false``: ham judged spam. ``caught``: spam judged spam, and of either kind what was unsure."""

    ham: int
    spam: int
    false: int
    caught: int
    unsure_ham: int
    unsure_spam: int


def halves(kinds: tuple[Sequence[bytes], Sequence[bytes]], seeds: int) -> Iterator[Half]:
    """``kinds``: messages of ham, and of spam."""
    words = [list(map(words_of, several)) for several in kinds]
    with tempfile.TemporaryDirectory() as folder:
        file = BayesFile(folder)
        lessons = [[lesson(octets, file.secret) for octets in several] for several in kinds]
        for seed in range(seeds):
            order = [random.Random(seed).sample(range(len(several)), len(several)) for several in kinds]
            for half in (0, 1):
                model = trained(file, folder, [[lessons[kind][at] for at in order[kind][half::2]] for kind in (0, 1)])
                likes = [[judged(model, words[kind][at]) for at in order[kind][1 - half :: 2]] for kind in (0, 1)]
                false, caught = (sum(like >= OPTIONS["spam"] for like in several) for several in likes)
                unsure = [sum(OPTIONS["ham"] < like < OPTIONS["spam"] for like in several) for several in likes]
                yield Half(len(likes[0]), len(likes[1]), false, caught, *unsure)
        file.close()


def trained(file: BayesFile, folder: str, lessons: Sequence[Sequence[Lesson]]) -> Model:
    for spam, several in enumerate(lessons):
        file.learn(several, bool(spam), 0.0)
    file.renew(OPTIONS["max_memory"])
    for several in lessons:
        file.forget(each.identity for each in several)
    return Model(f"{folder}/{FILE_NAME}")


def words_of(octets: bytes) -> tuple[str, ...]:
    message = Message("", Body(len(octets), octets[:SMALL_BODY], None, b""))
    parts = walk(octets)
    return tokens(message.fields, parts, text(parts))


def judged(model: Model, words: Sequence[str]) -> float:
    return likeness(Counted(model.spam, model.ham, model.counts(words))).spam


def thousand(model: Model, known: Sequence[str]) -> float:
    """CPU milliseconds to judge a message of so many words that are known."""
    spent = []
    for turn in range(TURNS):
        words = random.Random(turn).sample(known, min(WORDS, len(known)))
        started = time.thread_time()
        judged(model, words)
        spent.append(time.thread_time() - started)
    return min(spent) * 1000


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("ham", type=Path)
    parser.add_argument("spam", type=Path)
    parser.add_argument("--seeds", type=int, default=5, help="ways of dealing them (now %(default)s)")
    args = parser.parse_args(arguments)
    troubles: list[str] = []
    kinds = tuple(
        [octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for octets in messages(path, LARGEST, troubles.append)]
        for path in (args.ham, args.spam)
    )
    print(f"{'ham':>6}{'taken for spam':>16}{'unsure':>8}{'spam':>8}{'caught':>8}{'unsure':>8}")
    found = list(halves((kinds[0], kinds[1]), args.seeds))
    for row in (*found, Half(*map(sum, zip(*found, strict=True)))):
        print(
            f"{row.ham:>6}{row.false:>16}{row.unsure_ham:>8}{row.spam:>8}{row.caught / row.spam:>8.1%}"
            f"{row.unsure_spam:>8}"
        )
    with tempfile.TemporaryDirectory() as folder:
        file = BayesFile(folder)
        lessons = [[lesson(octets, file.secret) for octets in several] for several in kinds]
        model = trained(file, folder, lessons)
        known = sorted({word for several in kinds for octets in several for word in words_of(octets)})
        print(f"{model.words} words known, {min(WORDS, len(known))} judged in {thousand(model, known):.1f} ms")
        file.close()
    print(*troubles, sep="\n", file=sys.stderr)
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main())
