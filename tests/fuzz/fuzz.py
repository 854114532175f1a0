"""Looks for octets that break the gateway, led by the code they reach: ``make fuzz TARGET=strange_client``.

Needs atheris (the extra ``fuzz``), which brings libFuzzer. What it finds new is kept in build/fuzz/TARGET for the next
run; what breaks something is written beside it, and belongs into tests/fuzz/corpus/TARGET once it is understood: the
tests tell every story there again. ``--keep`` brings the corpus of the tree up to date from what was found: the fewest
and shortest inputs that reach all of it.
"""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

TARGETS = ("strange_client", "strange_primary", "strange_letter", "strange_words")
CORPUS = HERE / "corpus"
FOUND = HERE.parents[1] / "build" / "fuzz"
# What was found and has no name of its own; and how much is kept of one.
NAMELESS, KEPT_OCTETS = "found-", 400
# One story takes some milliseconds; one that takes so many seconds is a finding.
STORY_SECONDS = 30
# A process that grows beyond this is one, too.
MEGABYTES = 2048


def fuzz(target: str, arguments: list[str]) -> None:
    """Does not return: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["inboundmx"]):
        module = importlib.import_module(target)
    usual = [f"-max_len={module.MAX_LENGTH}", f"-timeout={STORY_SECONDS}", f"-rss_limit_mb={MEGABYTES}"]
    words = HERE / f"{target}.dict"
    if words.exists():
        usual.append(f"-dict={words}")
    # As which libFuzzer starts itself anew, by a shell.
    myself = shlex.join([sys.executable, __file__, "--inner", target])
    atheris.Setup([myself, *usual, *arguments], module.one)
    atheris.Fuzz()


def look(target: str, seconds: int) -> int:
    """The exit status of a run."""
    found = FOUND / target
    found.mkdir(parents=True, exist_ok=True)
    print(f"{target}: {seconds} s; new inputs go to {found}", flush=True)
    return _run(
        target,
        f"-max_total_time={seconds}",
        f"-artifact_prefix={FOUND}/{target}-",
        "-print_final_stats=1",
        str(found),
        *([str(CORPUS / target)] if (CORPUS / target).exists() else []),
    )


def keep(target: str) -> int:
    """The exit status. What has a name in the tree stays, whatever it reaches; what was only found is chosen anew."""
    kept, fewer = CORPUS / target, FOUND / f"{target}-fewer"
    shutil.rmtree(fewer, ignore_errors=True)
    named = [path for path in kept.iterdir() if not path.name.startswith(NAMELESS)]
    for folder in (fewer, FOUND / target):
        folder.mkdir(parents=True, exist_ok=True)
    for path in named:
        shutil.copy(path, fewer)
    # Whether a branch is taken counts, not how often.
    status = _run(
        target, "-merge=1", "-use_counters=0", f"-max_len={KEPT_OCTETS}", *map(str, (fewer, FOUND / target, kept))
    )
    if status:
        return status
    for old in set(kept.iterdir()) - set(named):
        old.unlink()
    found = sorted({path.name for path in fewer.iterdir()} - {path.name for path in named})
    for name in found:
        shutil.copy(fewer / name, kept / f"{NAMELESS}{name[:12]}")
    print(f"{target}: {len(found)} inputs beside {len(named)} that have names")
    return 0


def _run(target: str, *arguments: str) -> int:
    return subprocess.run([sys.executable, __file__, "--inner", target, *arguments]).returncode


def main() -> None:
    if sys.argv[1:2] == ["--inner"]:
        fuzz(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("seconds", type=int, help="for all targets together")
    parser.add_argument("target", nargs="*", help="one or more of " + ", ".join(TARGETS))
    parser.add_argument("--keep", action="store_true", help="only minimises what was found into the tree")
    asked = parser.parse_args()
    targets = asked.target or TARGETS
    if importlib.util.find_spec("atheris") is None:
        sys.exit("atheris is not installed: pip install -e '.[fuzz]'")
    statuses = [keep(each) if asked.keep else look(each, asked.seconds // len(targets)) for each in targets]
    sys.exit(any(statuses))


if __name__ == "__main__":
    main()
