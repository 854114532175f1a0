"""Bodies as files. Knows how a large body is written, synced, moved, checked and removed; does not know entries.

A body on its way in is in memory up to SMALL_BODY octets, then in ``incoming/``. Only the spool's writer thread syncs
it and moves it to ``bodies/``, before the row that speaks of it is committed. Paths are relative to the data folder;
one of a body that shares its file with others (``packs``) ends in ``#`` and the octet where it begins.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Collection, Iterable
from typing import Any

from inboundmx.model.message import SMALL_BODY, Body
from inboundmx.ports import Damaged, Unavailable
from inboundmx.storage.disk import sync_folder, unavailable

_OURS = re.compile(r"[0-9a-z]{8,64}")
_READ_OCTETS = 1024 * 1024
# Files of bodies on their way in, where nobody has counted descriptors.
MOST_OPEN = 1000
_SHARED = re.compile(r"(.+)#([0-9]{1,9})", re.DOTALL)


def is_ours(name: str) -> bool:
    """Whether we may have given a body this name."""
    return _OURS.fullmatch(name) is not None


def place_of(path: str) -> tuple[str, int | None]:
    """The file of a body, and the octet where it begins; None: it has the file for itself."""
    found = _SHARED.fullmatch(path)
    return (path, None) if found is None else (found[1], int(found[2]))


def _open_at_once(path: str, flags: int) -> int:
    """Opens a file to read; a pipe in its place that nobody writes to is not waited for."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


class BodyFiles:
    """The two folders of one worker's spool. Called from threads: keeps nothing but names."""

    def __init__(self, folder: str, data_folder: str) -> None:
        self._data = data_folder
        self._incoming = os.path.join(folder, "incoming")
        self._bodies = os.path.join(folder, "bodies")
        self._coming_in = os.path.relpath(self._incoming, data_folder)

    def prepare(self) -> None:
        for folder in (self._incoming, self._bodies):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        sync_folder(os.path.dirname(self._bodies))

    def incoming(self, name: str) -> str:
        """The path under which a body of that name comes in."""
        return f"{self._coming_in}/{name}"

    def absolute(self, path: str) -> str:
        return os.path.join(self._data, path)

    def staying(self, name: str) -> str:
        """The path under which a body of that name stays."""
        return os.path.relpath(os.path.join(self._bodies, name), self._data)

    def sync(self) -> None:
        """Makes the names of the files that stay last."""
        sync_folder(self._bodies)

    def keep(self, paths: Iterable[str]) -> dict[str, str]:
        """Syncs incoming files and moves them to where they stay; from old path to new. One that is there already
        (its message has another entry) stays. Raises OSError, with everything where it was."""
        kept: dict[str, str] = {}
        try:
            for path in paths:
                old = self.absolute(path)
                new = os.path.join(self._bodies, os.path.basename(path))
                if old != new:
                    descriptor = os.open(old, os.O_RDONLY)
                    try:
                        os.fsync(descriptor)
                    finally:
                        os.close(descriptor)
                    os.rename(old, new)
                    kept[path] = os.path.relpath(new, self._data)
            if kept:
                self.sync()
        except OSError:
            self.give_back(kept)
            raise
        return kept

    def share(self, paths: Iterable[str]) -> dict[str, str]:
        """Gives files of another folder a second name among ours; from the old path to ours. One that is gone has none.
        Raises OSError."""
        shared: dict[str, str] = {}
        for path in paths:
            file, start = place_of(path)
            new = os.path.join(self._bodies, os.path.basename(file))
            try:
                os.link(self.absolute(file), new, follow_symlinks=False)
            except FileNotFoundError:
                continue
            except FileExistsError:
                # Linked already before a crash, or for another body in it; or their row speaks of a file of ours, which
                # is to stay.
                if os.path.normpath(self.absolute(file)) == os.path.normpath(new):
                    continue
            shared[path] = os.path.relpath(new, self._data) + ("" if start is None else f"#{start}")
        if shared:
            self.sync()
        return shared

    def give_back(self, kept: dict[str, str]) -> None:
        """The rows were not committed: the files are their drafts' again."""
        for old, new in kept.items():
            with contextlib.suppress(OSError):
                os.rename(self.absolute(new), self.absolute(old))

    def remove(self, path: str) -> None:
        # A file that cannot be removed now belongs to no row, and the next start sweeps it away.
        with contextlib.suppress(OSError):
            os.unlink(self.absolute(path))

    def check(self, path: str, size: int, digest: bytes) -> Body:
        """The body in a file, all of it read and its hash compared. Raises Damaged or Unavailable."""
        name, start = place_of(path)
        seen = hashlib.sha256()
        head = b""
        octets = 0
        try:
            with open(self.absolute(name), "rb", buffering=0, opener=_open_at_once) as file:
                if start is not None:
                    file.seek(start)
                while chunk := file.read(_READ_OCTETS if start is None else min(size - octets, _READ_OCTETS)):
                    if not octets:
                        head = chunk[:SMALL_BODY]
                    octets += len(chunk)
                    seen.update(chunk)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES):
                raise unavailable(error) from error
            raise Damaged(f"{path}: {os.strerror(error.errno or 0)}") from error
        if octets != size or seen.digest() != digest:
            raise Damaged(f"{path}: hash or length is wrong")
        # Bodies that share a file are small ones.
        return Body(size, head, path if start is None else None, digest)

    def sweep(self, known: Collection[str] | None) -> int:
        """At the start, when nobody else can use the folder: removes what was coming in when we ended, and files
        that no row speaks of (unless ``known`` is None: rows are missing). Only names such as we make are touched.
        Returns how many went."""
        removed = 0
        files = None if known is None else {place_of(path)[0] for path in known}
        for folder in (self._incoming, self._bodies):
            if folder == self._bodies and files is None:
                continue
            with contextlib.suppress(OSError), os.scandir(folder) as found:
                for item in found:
                    path = os.path.relpath(item.path, self._data)
                    if not is_ours(item.name) or item.is_dir(follow_symlinks=False):
                        continue
                    if folder == self._incoming or (files is not None and path not in files):
                        with contextlib.suppress(OSError):
                            os.unlink(item.path)
                            removed += 1
        return removed


class Places:
    """How many files of bodies on their way in are open, and how many may be."""

    __slots__ = ("most", "taken")

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0


class FileDraft:
    """A body on its way in (ports.Draft). The first SMALL_BODY octets stay in memory, all the rest is in the file."""

    __slots__ = ("_absolute", "_chunks", "_descriptor", "_error", "_hash", "_head", "_path", "_places", "_size")

    def __init__(self, path: str, absolute: str, places: Places) -> None:
        self._path = path
        self._absolute = absolute
        self._places = places
        self._chunks: list[bytes] = []
        self._size = 0
        # Made when there is a file: what stays in memory is hashed when it is kept.
        self._hash: Any = None
        self._head = b""
        self._descriptor = -1
        self._error: Unavailable | None = None

    def write(self, chunk: bytes) -> None:
        if self._error is not None:
            return
        self._size += len(chunk)
        if self._descriptor >= 0:
            self._hash.update(chunk)
            self._store(chunk)
            return
        self._chunks.append(chunk)
        if self._size > SMALL_BODY:
            whole = b"".join(self._chunks)
            self._chunks = []
            self._head = whole[:SMALL_BODY]
            self._hash = hashlib.sha256(whole)
            self._store(whole)

    def finish(self) -> Body:
        if self._error is not None:
            raise self._error
        if self._descriptor < 0 and not self._head:
            whole = b"".join(self._chunks)
            return Body(self._size, whole, None, b"")
        self._close()
        return Body(self._size, self._head, self._path, self._hash.digest())

    def discard(self) -> None:
        self._chunks = []
        if self._head:
            self._close()
            with contextlib.suppress(OSError):
                os.unlink(self._absolute)

    def _store(self, octets: bytes) -> None:
        try:
            if self._descriptor < 0:
                if self._places.taken >= self._places.most:
                    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
                self._descriptor = os.open(self._absolute, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                self._places.taken += 1
            left = memoryview(octets)
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            self._error = unavailable(error)
            self.discard()
            raise self._error from error

    def _close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            self._places.taken -= 1
            with contextlib.suppress(OSError):
                os.close(descriptor)


class SpoolBodies:
    """Where the bodies of new messages go (ports.Bodies): the folder of the spool that may come to hold them."""

    def __init__(self, folder: str, data_folder: str) -> None:
        self._files = BodyFiles(folder, data_folder)
        self._files.prepare()
        self.places = Places(MOST_OPEN)

    def draft(self, id: str) -> FileDraft:
        path = self._files.incoming(id)
        return FileDraft(path, self._files.absolute(path), self.places)


class BodyContents:
    """The octets of bodies, for whoever looks into them before they are settled (ports.Contents)."""

    def __init__(self, data_folder: str) -> None:
        self._data = data_folder

    def whole(self, body: Body) -> bytes:
        if body.path is None:
            return body.head
        whole = self._read(body.path, 0, body.size)
        if len(whole) != body.size:
            raise Unavailable("the stored body is cut short")
        return whole

    def part(self, body: Body, start: int, octets: int) -> bytes:
        if body.path is None:
            return body.head[start : start + octets]
        return self._read(body.path, start, octets)

    def _read(self, path: str, start: int, octets: int) -> bytes:
        try:
            with open(os.path.join(self._data, path), "rb", buffering=0) as file:
                file.seek(start)
                read = bytearray()
                while len(read) < octets and (chunk := file.read(octets - len(read))):
                    read += chunk
        except OSError as error:
            # The stranger may have hung up, and the body be gone.
            raise Unavailable(os.strerror(error.errno or 0)) from error
        return bytes(read)
