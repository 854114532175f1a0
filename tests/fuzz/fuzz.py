"""Looks for octets that break the gateway, led by the code they reach: ``make fuzz TARGET=strange_client``.

Needs atheris (the extra ``fuzz``), which brings libFuzzer. What it finds new is kept in build/fuzz/TARGET for the next
run; what breaks something is written beside it, and belongs into tests/fuzz/corpus/TARGET once it is understood: the
tests tell every story there again. ``--keep`` brings the corpus of the tree up to date from what was found: the fewest
and shortest inputs that reach all of it.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

TARGETS = ("strange_client", "strange_primary", "strange_letter", "strange_words")
CORPUS = HERE / "corpus"
FOUND = HERE.parents[1] / "build" / "fuzz"
# One story takes some milliseconds; one that takes so many seconds is a finding.
STORY_SECONDS = 10
# A process that grows beyond this is one, too.
MEGABYTES = 2048


def fuzz(target: str, arguments: list[str]) -> None:
    """Does not return: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["inboundmx"]):
        module = importlib.import_module(target)
    sys.argv[1:] = []
    usual = [f"-max_len={module.MAX_LENGTH}", f"-timeout={STORY_SECONDS}", f"-rss_limit_mb={MEGABYTES}"]
    words = HERE / f"{target}.dict"
    if words.exists():
        usual.append(f"-dict={words}")
    atheris.Setup([sys.argv[0], *usual, *arguments], module.one)
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
    """The exit status. What is in the tree and broke something once stays, whatever it reaches."""
    kept, fewer = CORPUS / target, FOUND / f"{target}-fewer"
    shutil.rmtree(fewer, ignore_errors=True)
    fewer.mkdir(parents=True)
    kept.mkdir(exist_ok=True)
    status = _run(target, "-merge=1", str(fewer), str(kept), str(FOUND / target))
    if status:
        return status
    for old in kept.glob("found-*"):
        old.unlink()
    octets = 0
    for new in sorted(fewer.iterdir()):
        octets += new.stat().st_size
        shutil.copy(new, kept / f"found-{new.name[:12]}")
    print(f"{target}: {len(list(fewer.iterdir()))} inputs, {octets} octets")
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
    sys.exit(max(statuses))


if __name__ == "__main__":
    main()
