"""Whether the files that a message brings are such as are let in.

Knows the keys and when a thread is needed. ``attachment_look`` knows how it is found out. Does not know what an outcome
is worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, ClassVar

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.checks.attachment_look import WORST, Found, Rules, at_once, flawed, look
from inboundmx.checks.walking import AT_ONCE, walked
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.settings import MB
from inboundmx.model.verdict import Weight
from inboundmx.policy.file_names import USUAL, Names
from inboundmx.policy.file_types import WORDS
from inboundmx.policy.mime import Part

# Kinds of files that hardly anybody sends for a good reason, and that run or hold what runs.
TYPES = ("pe", "elf", "macho", "java", "wasm", "msi", "lnk", "url", "hta", "chm", "onenote", "iso", "vhd", "swf", "ace")
# Of the time the check has, this is for looking: the answer is to come before nobody waits for it.
LOOKING = 0.8


class Attachments(Check):
    """``forbidden``: a file has a name or is of a kind that is not let in. ``too_deep``: there is more in it than is
    looked at. ``macro``: an Office document with programs in it. ``encrypted``: an archive or document that nobody can
    look into. ``malformed``: the message or an archive in it is such that readers see different files in it. ``clean``:
    nothing of these. The worst counts, in this order.
    """

    kind: ClassVar[str] = "attachments"
    stage: ClassVar[Stage] = Stage.MESSAGE
    outcomes: ClassVar[frozenset[str]] = frozenset({"clean", *WORST})
    weights: ClassVar[Mapping[str, Weight]] = {}
    options: ClassVar[tuple[Option, ...]] = (
        Option(
            "names", "globs", (USUAL,),
            "names that are not let in, case aside, blanks between: extensions, or globs such as *invoice*.html; usual "
            "stands for the extensions of programs and scripts",
        ),
        Option(
            "types", "globs", (USUAL,),
            "kinds of files that are not let in, told by their content: words of docs/checks/attachments.md, MIME "
            "types and extensions with a dot; usual stands for programs and what holds them",
        ),
        Option("archive_depth", "count", 5, "archives in archives that are opened; a message in one is one as well"),
        Option(
            "archive_files", "count", 1000,
            "files in all archives of a message that are looked at, with the parts of messages among them",
        ),
        Option("archive_ratio", "count", 250, "how many times its size an archive may grow, from 1 MB on"),
        Option("archive_size", "size", 64 * MB, "what is unpacked of a message, all archives together"),
        Option(
            "unreadable", f"word:clean {' '.join(WORST)}", "clean",
            "what an archive is whose files can be listed but not read",
        ),
        Option(
            "macros", "word:found oletools", "found",
            "found: any macro counts. oletools: such as start by themselves or do something suspicious, by that "
            "library (pip install inboundmx[macros]), which is run for each document that has any",
        ),
    )  # fmt: skip

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None:
        """Raises ValueError for a kind of file that there is not, and for a library that is not installed."""
        given = {option.name: option.default for option in self.options} | dict(options)
        types: set[str] = set()
        kinds: set[str] = set()
        for word in given["types"]:
            if word == USUAL:
                types.update(TYPES)
            elif word in WORDS:
                types.add(word)
            elif "/" in word or word.startswith("."):
                kinds.add(word)
            else:
                raise ValueError(f"types = {word}: no kind of file; write {' '.join(WORDS)}, a MIME type or .extension")
        read = given["macros"] == "oletools"
        if read and find_spec("oletools") is None:
            raise ValueError("macros = oletools needs that library: pip install inboundmx[macros]")
        self._rules = Rules(
            Names(given["names"]),
            frozenset(types),
            frozenset(kinds),
            given["archive_depth"],
            given["archive_files"],
            given["archive_ratio"],
            given["archive_size"],
            given["unreadable"],
            tools.macros.read if read and tools is not None and tools.macros is not None else None,
        )
        self._tools = tools

    async def examine(self, case: Case) -> Finding:
        assert self._tools is not None and case.message is not None
        now = self._tools.clock.monotonic
        deadline = now() + LOOKING * self._tools.timeout
        message = await walked(case, self._tools)
        found = Found()
        flawed(message, self._rules, found)
        small = case.message.body.size <= AT_ONCE
        rest: list[Part] = []
        for part in message.parts:
            if not part.container and not (small and at_once(part, self._rules, found)):
                rest.append(part)
        if rest:
            await self._tools.offload.run(look, rest, self._rules, now, deadline, found)
        return found.finding()
