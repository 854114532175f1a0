"""The picture of docs/architecture.md, held true: who may import whom, read from every file's syntax tree."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "inboundmx"

# The longest prefix decides.
RINGS = {
    "inboundmx": 0,
    "inboundmx.__main__": 4,
    "inboundmx.model": 0,
    "inboundmx.ports": 0,
    "inboundmx.prompt": 0,
    "inboundmx.policy": 1,
    "inboundmx.smtp": 3,
    "inboundmx.smtp.framing": 1,
    "inboundmx.smtp.commands": 1,
    "inboundmx.smtp.dialogue": 1,
    "inboundmx.smtp.naming": 1,
    "inboundmx.smtp.replies": 1,
    "inboundmx.smtp.server_auth": 1,
    "inboundmx.checks": 2,
    "inboundmx.intake": 2,
    "inboundmx.delivery": 2,
    "inboundmx.directory": 2,
    "inboundmx.ledger": 2,
    "inboundmx.spool": 3,
    "inboundmx.spool.store": 2,
    "inboundmx.net": 3,
    "inboundmx.storage": 3,
    "inboundmx.console": 3,
    "inboundmx.cli": 3,
    "inboundmx.app": 4,
}
# Packages of the same ring speak to each other through ports; these pairs are the ones that need more, and why.
NEIGHBOURS = {
    ("inboundmx.intake", "inboundmx.checks"): "reception runs the checks",
    ("inboundmx.spool", "inboundmx.storage"): "one kind of writer thread serves every SQLite file",
    ("inboundmx.cli", "inboundmx.spool"): "commands work on the files of a gateway that is stopped",
    ("inboundmx.cli", "inboundmx.storage"): "the same",
    ("inboundmx.cli", "inboundmx.app"): "a face calls the composition: inboundmx run starts it",
}
# Deferred is a future, Failure an exception with its traceback: neither does I/O.
FUTURES = {"twisted.internet.defer", "twisted.python.failure"}
# Libraries without I/O of their own, or with their one question to the outside taken over (pyspf, dkimpy).
PURE_LIBRARIES = {
    "inboundmx.smtp.commands": {"idna"},
    "inboundmx.policy.authenticating": {"scramp"},
    "inboundmx.checks.author": {"idna"},
    "inboundmx.checks.link_hosts": {"idna"},
    "inboundmx.checks": {"cryptography", "dkim", "publicsuffixlist", "puremagic", "spf"},
}
# The outside world in the standard library: time, chance, disk, network, processes, threads come in through ports.
OUTSIDE = {
    *("asyncio", "concurrent", "fcntl", "http", "io", "multiprocessing", "os", "pathlib", "queue", "random", "secrets"),
    *("select", "selectors", "shutil", "signal", "smtplib", "socket", "socketserver", "sqlite3", "ssl", "subprocess"),
    *("tempfile", "threading", "time", "urllib", "uuid"),
}
# Of ``time``, the two that only convert what they are given.
PURE_TIME = {"gmtime", "strftime"}
# Of other such modules, what only looks at what it is given.
PURE = {"io.IncrementalNewlineDecoder"}


def ring(module: str) -> int:
    while module not in RINGS:
        module = module.rpartition(".")[0]
    return RINGS[module]


def package(module: str) -> str:
    """``inboundmx.smtp.framing`` is of ``inboundmx.smtp``, ``inboundmx.ports`` of itself."""
    return ".".join(module.split(".")[:2])


def imports(tree: ast.AST) -> list[tuple[str, str]]:
    """(module, name) of every import in the file, inside functions too; name is empty for ``import module``."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found += [(node.module or "", alias.name) for alias in node.names]
    return found


def wrong_imports(module: str, tree: ast.AST) -> list[str]:
    own = ring(module)
    wrong = []
    for source, name in imports(tree):
        whole = f"{source}.{name}" if name else source
        top = source.split(".")[0]
        if whole == "twisted.internet.reactor":
            if package(module) != "inboundmx.app":
                wrong.append(f"{whole}: only inboundmx.app knows the reactor")
        elif top == "inboundmx":
            wrong += wrong_neighbour(module, own, whole)
        elif own >= 3:
            continue
        elif top in sys.stdlib_module_names:
            pure = own < 2 and (whole in PURE or (top == "time" and name in {"", *PURE_TIME}))
            if top in OUTSIDE and not pure:
                wrong.append(f"{whole}: ring {own} reaches the outside through ports")
        elif whole in FUTURES or source in FUTURES:
            if package(module) == "inboundmx.model":
                wrong.append(f"{whole}: model imports the standard library only")
        elif top not in PURE_LIBRARIES.get(module, set()) | PURE_LIBRARIES.get(package(module), set()):
            wrong.append(f"{whole}: no library for ring {own}")
    return wrong


def wrong_neighbour(module: str, own: int, whole: str) -> list[str]:
    pair = (package(module), package(whole))
    other = ring(whole)
    if pair[0] == pair[1] and (other <= own or own >= 3):
        return []
    if pair in NEIGHBOURS or other < min(own, 3) or own == 4 or (own == other and own < 2):
        return []
    return [f"{whole}: ring {own} may not import ring {other}"]


def wrong_calls(module: str, tree: ast.AST) -> list[str]:
    """Calls that reach the outside without an import that shows it."""
    if ring(module) >= 3:
        return []
    wrong = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in {"open", "print", "input", "exec", "eval", "__import__"}:
            wrong.append(f"line {node.lineno}: {called}()")
        if called.startswith("time.") and called.removeprefix("time.") not in PURE_TIME:
            wrong.append(f"line {node.lineno}: {called}()")
        if called in {f"{name}.{now}" for name in ("datetime", "datetime.datetime", "date", "datetime.date")
                      for now in ("now", "utcnow", "today")}:  # fmt: skip
            wrong.append(f"line {node.lineno}: {called}()")
    return wrong


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


MODULES = modules()


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_every_module_stays_in_its_ring(module: str, path: Path) -> None:
    tree = ast.parse(path.read_text(), str(path))

    assert wrong_imports(module, tree) == []
    assert wrong_calls(module, tree) == []


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_every_module_says_what_it_knows(module: str, path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(), str(path)))


@pytest.mark.parametrize("path", [path for _, path in MODULES if path.name == "__init__.py"], ids=str)
def test_packages_hold_no_code_of_their_own(path: Path) -> None:
    body = ast.parse(path.read_text(), str(path)).body

    allowed = (ast.Expr, ast.Assign)
    assert all(isinstance(node, allowed) for node in body)


def test_every_package_has_a_ring() -> None:
    packages = {package(module) for module, path in MODULES if path.name == "__init__.py"}

    assert packages <= set(RINGS)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("inboundmx.model.address", "from twisted.internet.defer import Deferred"),
        ("inboundmx.model.address", "from inboundmx.policy import scoring"),
        ("inboundmx.ports", "from twisted.internet import task"),
        ("inboundmx.policy.scoring", "import os"),
        ("inboundmx.policy.scoring", "from time import time"),
        ("inboundmx.policy.scoring", "import idna"),
        ("inboundmx.policy.scoring", "import spf"),
        ("inboundmx.policy.scoring", "from inboundmx.intake.conversation import Conversation"),
        ("inboundmx.smtp.dialogue", "from inboundmx.smtp.server import Server"),
        ("inboundmx.smtp.dialogue", "def late():\n    import socket"),
        ("inboundmx.checks.dnsbl", "from twisted.internet import defer, reactor"),
        ("inboundmx.checks.dnsbl", "import time"),
        ("inboundmx.delivery.courier", "from inboundmx.intake.acceptance import Acceptance"),
        ("inboundmx.delivery.courier", "from inboundmx.smtp.client import Client"),
        ("inboundmx.net.clock", "from twisted.internet import reactor"),
        ("inboundmx.net.clock", "from inboundmx.app.settings import load"),
        ("inboundmx.storage.memory", "from inboundmx.net.clock import SystemClock"),
        ("inboundmx.cli.main", "import twisted.internet.reactor"),
    ],
)
def test_a_wrong_import_is_seen(module: str, source: str) -> None:
    assert wrong_imports(module, ast.parse(source))


@pytest.mark.parametrize("source", ["open('x')", "time.time()", "datetime.now()", "datetime.datetime.now(tz=UTC)"])
def test_a_wrong_call_is_seen(source: str) -> None:
    assert wrong_calls("inboundmx.intake.conversation", ast.parse(source))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("inboundmx.ports", "from twisted.internet.defer import Deferred"),
        ("inboundmx.smtp.commands", "import idna"),
        ("inboundmx.checks.spf", "import spf"),
        ("inboundmx.policy.stamping", "import time"),
        ("inboundmx.smtp.client", "from inboundmx.smtp.framing import stuff"),
        ("inboundmx.intake.conversation", "from inboundmx.checks.runner import run"),
        ("inboundmx.app.service", "from twisted.internet import reactor"),
    ],
)
def test_a_right_import_passes(module: str, source: str) -> None:
    assert wrong_imports(module, ast.parse(source)) == []
