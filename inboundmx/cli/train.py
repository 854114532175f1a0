"""``inboundmx train``: the mail that the Bayesian filter learns from, and how well it judges by it.

Works on the filter's own files, whether the gateway runs or not: a running one judges by the new model seconds later.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from inboundmx.cli.asking import CannotAsk
from inboundmx.cli.configuration import Configuration
from inboundmx.cli.printing import complain, safe, say, say_json, table
from inboundmx.cli.querying import verbs_of
from inboundmx.ports import Unavailable

# Messages that are kept with one commit, and newest ones of each kind that a report tries the filter on.
BATCH = 100
TRIED = 1000
_PROGRESS_SECONDS = 0.5


def register(commands: Any) -> None:
    verbs = verbs_of(commands, "train", "the mail that the Bayesian filter (bayes) learns from")
    where = "files with a message each, mboxes, and folders of either (Maildir)"
    for verb, help, said in (
        ("ham", "learn good mail", "Learns mail as good. What was learned as spam before is ham from now on."),
        ("spam", "learn spam", "Learns mail as spam. What was learned as ham before is spam from now on."),
        ("forget", "forget mail that was learned", "Forgets messages that were learned, as whatever they were."),
    ):
        command = verbs.add_parser(verb, help=help, description=f"{said} A message that is met again counts once.")
        command.add_argument("paths", metavar="PATH", nargs="+", help=where)
        command.add_argument("--json", action="store_true", help="a JSON object with what became of how many")
        command.set_defaults(run=_train, verb=verb)
    report = verbs.add_parser(
        "report",
        help="how well the filter judges",
        description=f"Judges each of the newest {TRIED} messages of either kind by what the others teach "
        "(cross-validation in ten parts).",
    )
    report.add_argument("--json", action="store_true", help="a JSON object")
    report.set_defaults(run=_report)
    renew = verbs.add_parser(
        "renew",
        help="make the model anew that is judged by",
        description="Makes the model anew of all that was learned: for when it is damaged, or max_memory has changed.",
    )
    renew.set_defaults(run=_renew)


def _train(args: argparse.Namespace) -> int:
    from inboundmx.storage.lessons import LARGEST, lesson
    from inboundmx.storage.mail_files import messages

    paths = [Path(each) for each in args.paths]
    for path in paths:
        if not path.exists():
            raise CannotAsk(f"{safe(str(path))}: there is no such file or folder; nothing was learned", usage=True)
    config = Configuration(args.config)
    options = _options(config)
    outcomes: Counter[str] = Counter()
    troubles = 0

    def unreadable(sentence: str) -> None:
        nonlocal troubles
        troubles += 1
        complain(safe(sentence))

    with _file(config) as file:
        lessons = (lesson(octets, file.secret) for path in paths for octets in messages(path, LARGEST, unreadable))
        shown_at = time.monotonic()
        while batch := list(islice(lessons, BATCH)):
            if args.verb == "forget":
                outcomes.update(file.forget(each.identity for each in batch))
            else:
                outcomes.update(file.learn(batch, args.verb == "spam", time.time()))
            if sys.stderr.isatty() and time.monotonic() >= shown_at + _PROGRESS_SECONDS:
                shown_at = time.monotonic()
                print(f"\r{outcomes.total()} messages", end="", file=sys.stderr, flush=True)
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        if outcomes["learned"] + outcomes["moved"] + outcomes["forgotten"]:
            file.renew(options["max_memory"])
        totals = file.totals()
    if args.json:
        say_json({"messages": outcomes.total(), **outcomes, "spam": totals.spam, "ham": totals.ham})
    else:
        said = ", ".join(f"{count} {_SAID[outcome]}" for outcome, count in sorted(outcomes.items()))
        say(f"{outcomes.total()} messages{f': {said}' if said else ''}", _known(totals.spam, totals.ham))
    return 1 if troubles or not outcomes else 0


_SAID = {
    "learned": "learned",
    "moved": "learned that were of the other kind before",
    "known": "known already",
    "forgotten": "forgotten",
    "unknown": "not known",
}


def _report(args: argparse.Namespace) -> int:
    from inboundmx.policy.validating import validated

    config = Configuration(args.config)
    options = _options(config)
    with _file(config) as file:
        totals = file.totals()
        samples = list(file.newest(TRIED))
    tried = Counter(spam for spam, _ in samples)
    if min(tried[True], tried[False]) < 2:
        raise CannotAsk(f"{_known(totals.spam, totals.ham)}; a report takes two of each at least")
    found = validated(samples, options["spam"], options["ham"])
    if args.json:
        say_json(
            {
                "spam": totals.spam,
                "ham": totals.ham,
                "tried": {"spam": found.spam._asdict(), "ham": found.ham._asdict()},
            }
        )
        return 0
    rows = [
        (name, str(tried[kind]), *(f"{number} ({number / tried[kind]:.1%})" for number in judged))
        for name, kind, judged in (("spam", True, found.spam), ("ham", False, found.ham))
    ]
    say(
        *table(("MAIL", "TRIED", "JUDGED SPAM", "UNSURE", "JUDGED HAM"), rows, right=(1, 2, 3, 4)),
        _known(totals.spam, totals.ham),
        "each was judged by what nine tenths of the others teach; spam from "
        f"{options['spam']:g} on, ham up to {options['ham']:g}",
    )
    return 0


def _renew(args: argparse.Namespace) -> int:
    config = Configuration(args.config)
    options = _options(config)
    with _file(config) as file:
        words = file.renew(options["max_memory"])
        totals = file.totals()
    say(f"{words} words", _known(totals.spam, totals.ham))
    return 0


def _known(spam: int, ham: int) -> str:
    from inboundmx.policy.bayesian import LEAST_TRAINED

    least = f"; it judges from {LEAST_TRAINED} of each on" if min(spam, ham) < LEAST_TRAINED else ""
    return f"known now: {spam} messages of spam, {ham} of ham{least}"


def _options(config: Configuration) -> Mapping[str, Any]:
    from inboundmx.app.learning import options_of

    options = options_of(config.settings)
    if options is None:
        complain("the configuration has no [check …] with use = bayes yet: nobody judges by what is learned")
        from inboundmx.checks.bayes import Bayes

        return {option.name: option.default for option in Bayes.options}
    return options


@contextlib.contextmanager
def _file(config: Configuration) -> Iterator[Any]:
    from inboundmx.storage.bayes import BayesFile

    data = config.settings.gateway.data
    if not Path(data).is_dir():
        raise CannotAsk(
            f"there is no {data}: the gateway has never run with this configuration, or [gateway] data is another"
        )
    try:
        file = BayesFile(data)
        try:
            yield file
        finally:
            file.close()
    except Unavailable as trouble:
        raise CannotAsk(f"not done: {trouble.reason}") from None
