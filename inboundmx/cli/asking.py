"""Asking for an operation: the running gateway through its control socket, else the files of a stopped one.

Knows the control socket's lines and what may go wrong on the way to an answer. Does not know what an operation does;
``app.operations`` does the same work in both places, so the answer is the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inboundmx.cli.configuration import Configuration
    from inboundmx.model.settings import Settings

SOCKET_NAME = "control.sock"
# A request is a line of JSON: room for thousands of ids.
REQUEST_LIMIT = 256 * 1024
_CONNECT_SECONDS = 5.0
# A change of many entries waits for many syncs of a busy disk.
_ANSWER_SECONDS = 120.0
_CUT_SHORT = "the gateway ended the conversation before its answer was whole; see its log"
_ROW = b'{"row":'
_READ_OCTETS = 256 * 1024
_ROWS_AT_ONCE = 1000
# sun_path holds 108 octets with its final zero.
_PATH_LIMIT = 107


class CannotAsk(Exception):
    """No answer was to be had; the text says why and what to do. ``usage``: the request itself was wrong."""

    def __init__(self, sentence: str, usage: bool = False) -> None:
        super().__init__(sentence)
        self.usage = usage


class NotRunning(Exception):
    """Nobody listens at the control socket."""


@contextlib.contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """A name for ``path`` that fits into a socket address, however deep the folder lies."""
    if len(os.fsencode(path)) <= _PATH_LIMIT:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def user_name(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def ask(config: Configuration, operation: str, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the answer. Raises CannotAsk."""
    return list(read(told(config, operation, arguments)))


def read(rows: Iterable[bytes], at_once: int = _ROWS_AT_ONCE) -> Iterator[dict[str, Any]]:
    """Rows that ``told`` gives, as values. Many at once, for parsers are quick and to call one is not; but while more
    are being made."""
    waiting = iter(rows)
    while some := list(islice(waiting, at_once)):
        try:
            values = json.loads(b"[%s]" % b",".join(some))
        except ValueError:
            raise CannotAsk(_CUT_SHORT) from None
        yield from values


def told(config: Configuration, operation: str, arguments: Mapping[str, Any]) -> Iterator[bytes]:
    """The rows of the answer, each as JSON text. Raises CannotAsk. The configuration is read as a whole only when no
    gateway is there to ask: what it says may be work in progress, and mail must be seen to all the same."""
    try:
        yield from ask_gateway(config.data, operation, arguments)
    except NotRunning:
        yield from ask_files(config.settings, operation, arguments)


def ask_gateway(data: str, operation: str, arguments: Mapping[str, Any]) -> Iterator[bytes]:
    """Raises NotRunning when nobody listens, before any row, and CannotAsk when somebody does and no answer comes."""
    path = Path(data) / SOCKET_NAME
    request = {"operation": operation, "arguments": arguments, "on_behalf_of": os.environ.get("SUDO_USER", "")}
    line = json.dumps(request).encode("ascii") + b"\n"
    if len(line) > REQUEST_LIMIT:
        raise CannotAsk("these are too many ids for one request: ask in several", usage=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_CONNECT_SECONDS)
        try:
            with socket_address(path) as address:
                connection.connect(address)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            raise NotRunning from None
        except PermissionError:
            raise CannotAsk(_denied(path)) from None
        except OSError as error:
            raise CannotAsk(f"{path}: {error.strerror or error}; is the gateway overloaded?") from None
        connection.settimeout(_ANSWER_SECONDS)
        try:
            connection.sendall(line)
            with connection.makefile("rb", buffering=_READ_OCTETS) as answer:
                yield from _rows(answer)
        except TimeoutError:
            raise CannotAsk(f"the gateway did not answer within {_ANSWER_SECONDS:.0f} seconds; see its log") from None
        except (OSError, ValueError):
            raise CannotAsk(_CUT_SHORT) from None


def _rows(answer: Any) -> Iterator[bytes]:
    for line in answer:
        if line.startswith(_ROW) and line.endswith(b"}\n"):
            yield line[len(_ROW) : -2]
            continue
        said = json.loads(line)
        if "error" in said:
            raise CannotAsk(said["error"], usage=bool(said.get("usage")))
        return
    raise ConnectionResetError


def ask_files(settings: Settings, operation: str, arguments: Mapping[str, Any]) -> list[bytes]:
    """Does the operation here, on files that nobody else holds. Raises CannotAsk."""
    # Twisted and SQLite are loaded only when there is no gateway to ask; and before we become somebody who may not be
    # allowed to read them.
    from inboundmx.cli.files import open_log, perform

    folder = Path(settings.gateway.data)
    writer = open_log(settings.log)
    try:
        act_as_owner(folder)
        os.listdir(folder)
    except FileNotFoundError:
        raise CannotAsk(
            f"there is no {folder}: the gateway has never run with this configuration, or [gateway] data is another"
        ) from None
    except PermissionError:
        raise CannotAsk(_denied(folder)) from None
    except OSError as error:
        raise CannotAsk(f"{folder}: {error.strerror or error}") from None
    try:
        return perform(settings, operation, arguments, _myself(), writer)
    finally:
        writer.close()


def act_as_owner(folder: Path) -> None:
    """Root becomes the owner of the data, so that no file in it becomes root's and the gateway can open them all."""
    if os.geteuid() != 0:
        return
    owner = os.stat(folder)
    if owner.st_uid != 0:
        os.setgroups([])
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)


def _myself() -> str:
    user, behind = user_name(os.getuid()), os.environ.get("SUDO_USER", "")
    return f"{behind} through {user}" if behind and os.getuid() == 0 else user


def _denied(path: Path) -> str:
    me = user_name(os.geteuid())
    try:
        whose = f"the user of the gateway, {user_name(os.stat(path).st_uid)}"
    except OSError:
        whose = "the user of the gateway"
    return f"{me} may not use {path}: run this as root or as {whose}"
