"""What a program did to its disk and said to the network, from strace. Knows the tracer's lines; does not know what any
of it means.

``COMMAND`` starts a program so that each call is written whole: every octet in hexadecimal, every descriptor with what
it stands for. A call that another thread's calls interrupt is in two lines: ``begun`` and ``ended`` are both kept, for
what lies between is of no known order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_WRITES = ("write", "pwrite64", "writev", "pwritev")
_NAMES = ("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir")
_SIZES = ("ftruncate", "truncate", "fallocate")
_SYNCS = ("fsync", "fdatasync", "sync_file_range", "syncfs", "msync")
_WIRE = ("sendto", "sendmsg", "recvfrom")
CALLS = (*_WRITES, *_NAMES, *_SIZES, *_SYNCS, *_WIRE, "openat")
# More than any one of ours writes.
_LONGEST = 16 * 2**20

_LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)")
_RESULT = re.compile(r"\) += (-?\d+)(.*)$")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_DESCRIPTOR = re.compile(r"(\w+)<((?:\\x[0-9a-f]{2})*)(?:<[^>]*>)?>(\(deleted\))?")
_INTERRUPTED = " <unfinished ...>"


def command(trace: Path, *inject: str) -> list[str]:
    """What a command line is to begin with. ``inject`` as strace -e inject=…; the tracer is nobody's parent, so that a
    signal reaches the program itself."""
    more = [word for each in inject for word in ("-e", f"inject={each}")]
    strace = ["strace", "-D", "-f", "-yy", "-xx", "-s", str(_LONGEST), "-o", str(trace)]
    return [*strace, "-e", f"trace={','.join(CALLS)}", *more]


@dataclass(slots=True)
class Call:
    """``paths``: of descriptors and of arguments, in order, absolute. ``data``: what was written, or read. ``result``
    is what the program was told; ``pretended``: and the system never did it."""

    name: str
    descriptor: int
    paths: tuple[str, ...]
    data: bytes
    numbers: tuple[int, ...]
    words: str
    result: int
    pretended: bool
    begun: int
    ended: int

    @property
    def writes(self) -> bool:
        return self.name in _WRITES

    @property
    def syncs(self) -> bool:
        return self.name in ("fsync", "fdatasync")


def read(trace: Path) -> list[Call]:
    """All finished calls in the order in which they began."""
    return sorted(_calls(trace.read_text().splitlines()), key=lambda call: call.begun)


def ended(trace: Path, pid: int) -> bool:
    """Whether all is written of a program that has ended."""
    with trace.open("rb") as file:
        file.seek(max(0, trace.stat().st_size - 4096))
        return any(re.match(rb"%d +\+\+\+ " % pid, line) for line in file.read().splitlines())


def _calls(lines: Sequence[str]) -> Iterator[Call]:
    open_calls: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines):
        found = _LINE.match(line)
        if found is None:
            continue
        pid, resumed, name, rest = found.groups()
        if rest.endswith(_INTERRUPTED):
            open_calls[pid] = number, rest.removesuffix(_INTERRUPTED)
            continue
        begun = number
        if resumed:
            begun, before = open_calls.pop(pid)
            rest = before + rest
        result = _RESULT.search(rest)
        if result is not None:
            yield _call(name or resumed, rest[: result.start()], int(result[1]), result[2], begun, number)


def _call(name: str, arguments: str, result: int, behind: str, begun: int, ended: int) -> Call:
    texts = []
    for octets, more in _TEXT.findall(arguments):
        assert not more, f"{name} is longer than the tracer was told to write"
        texts.append(_octets(octets))
    bare = _TEXT.sub('""', arguments)
    descriptors = [(what, _octets(path).decode(), gone) for what, path, gone in _DESCRIPTOR.findall(bare)]
    descriptor = int(bare.partition("<")[0]) if bare[:1].isdigit() else -1
    if name == "openat":
        descriptor = result
    paths = []
    if name in _NAMES or name in ("openat", "truncate"):
        # Each text is a path; where it is relative, the folder's descriptor stands before it.
        folders = [path for _, path, _ in descriptors]
        for text in texts:
            folder = folders.pop(0) if folders else ""
            path = text.decode(errors="surrogateescape")
            paths.append(path if path.startswith("/") else f"{folder}/{path}")
        texts = []
    else:
        paths = [f"{path} (deleted)" if gone else path for _, path, gone in descriptors if path.startswith("/")]
    data = b"".join(texts)
    if name in (*_WRITES, *_WIRE):
        data = data[: max(0, result)]
    numbers = tuple(int(word) for word in re.findall(r"(?<![\w<])-?\d+(?=,|$)", bare.partition(",")[2]))
    return Call(
        name, descriptor, tuple(paths), data, numbers, bare, result, "INJECTED" in behind, begun, ended,
    )  # fmt: skip


def _octets(hexadecimal: str) -> bytes:
    return bytes.fromhex(hexadecimal.replace("\\x", ""))
