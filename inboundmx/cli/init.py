"""``inboundmx init``: writes a first INI from flags and answers.

Knows which few things a first file must say. Does not know whether they are right: it is read back like any other INI
before it is put in its place.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

from inboundmx.app.addresses import domain_name, hosts, mailbox
from inboundmx.app.effective import as_ini
from inboundmx.app.endpoint_strings import endpoints
from inboundmx.app.settings import BadSettings, load, own_name
from inboundmx.app.usual_checks import missing, usual_checks, usual_rules
from inboundmx.app.values import one_line
from inboundmx.app.words import Wrong
from inboundmx.cli.printing import complain, safe, say
from inboundmx.model.settings import GatewaySettings


class Question(NamedTuple):
    """``default`` empty: it must be answered."""

    flag: str
    asked: str
    default: str
    read: Callable[[str], object]


_SHIPPED = GatewaySettings()
QUESTIONS = (
    Question("domain", "The domain to take mail for", "", domain_name),
    Question("primary", "Its real mail server (name or address, :PORT if not 25)", "", hosts),
    Question("hostname", "The name of this gateway, as its MX record has it", "{own_name}", domain_name),
    Question("postmaster", "Who answers for it", "postmaster@{domain}", mailbox),
    Question("listen", "Where to listen", " ".join(_SHIPPED.listen), endpoints),
    Question("data", "The folder for waiting mail", _SHIPPED.data, one_line),
)


def register(commands: Any) -> None:
    parser = commands.add_parser(
        "init", help="write a first INI", description="Writes a first INI, asking for what no option gives."
    )
    # The same name as the option before the command: given here it goes before that one.
    parser.add_argument("--config", metavar="FILE", dest="target", help="the file to write (default: as for inboundmx)")
    for question in QUESTIONS:
        usual = question.default.format(domain="DOMAIN", own_name="this machine's own")
        asked = f"{question.asked[0].lower()}{question.asked[1:]}"
        parser.add_argument(f"--{question.flag}", help=f"{asked} (default: {usual})" if usual else asked)
    parser.add_argument("--backup", action="store_true", help="backup MX of the domain: hold mail while it is down")
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    path = args.target or args.config
    if os.path.lexists(path) and not args.force:
        complain(f"{path} is there already; --force replaces it, --config FILE writes another")
        return 2
    try:
        answers = _answers(args)
    except Wrong as wrong:
        complain(safe(str(wrong)))
        return 2
    try:
        left_out = missing()
        _write(path, _text(answers, left_out, args.backup))
    except BadSettings as bad:
        complain(*(safe(problem.text) for problem in bad.problems))
        return 2
    except OSError as error:
        complain(f"{path} cannot be written: {error.strerror or error}")
        return 2
    for name in left_out:
        say(f"{name} does not run on this machine: [check {name}] is left out, and says how to begin")
    say(f"{path} is written. Now:", f"  inboundmx --config {path} check", f"  inboundmx --config {path} run")
    return 0


def _answers(args: argparse.Namespace) -> dict[str, str]:
    """What the options say, and for the rest what is answered at the terminal or, without one, the default."""
    answers: dict[str, str] = {}
    for question in QUESTIONS:
        given = getattr(args, question.flag)
        default = question.default.format(own_name=own_name(), **answers)
        if given is None and sys.stdin.isatty():
            answers[question.flag] = _asked(question, default)
            continue
        given = given or default
        if not given:
            raise Wrong(f"--{question.flag} is missing: {question.asked.lower()}")
        try:
            question.read(given)
        except Wrong as wrong:
            raise Wrong(f"--{question.flag} {given}: {wrong}") from None
        answers[question.flag] = given
    return answers


def _asked(question: Question, default: str) -> str:
    while True:
        try:
            answer = input(f"{question.asked}{f' [{default}]' if default else ''}: ").strip() or default
            if not answer:
                raise Wrong("this must be answered")
            question.read(answer)
        except EOFError:
            raise Wrong("no answer, nothing written") from None
        except Wrong as wrong:
            say(f"  {wrong}")
        else:
            return answer


def _text(answers: dict[str, str], left_out: list[str], backup: bool) -> str:
    mode = {"mode": "backup"} if backup else {}
    sections = {
        "gateway": {key: answers[key] for key in ("hostname", "postmaster", "listen", "data")},
        f"domain {answers['domain']}": {**mode, "primary": answers["primary"]},
    }
    return (
        "# inboundmx: a first configuration. Every other key has its default;\n"
        "# etc/inboundmx.ini and docs/reference.md of the program name them all.\n\n"
        + as_ini(sections)
        + "\n"
        + usual_rules()
        + "\n"
        + usual_checks(left_out)
    )


def _write(path: str, text: str) -> None:
    """Puts the text in place once it has been read as settings. Raises BadSettings or OSError, and leaves nothing."""
    folder = os.path.dirname(os.path.abspath(path))
    handle, draft = tempfile.mkstemp(prefix=".inboundmx-", suffix=".ini", dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
        load(draft)
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise
