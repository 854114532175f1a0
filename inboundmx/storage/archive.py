"""Archives: copies of messages as files, a folder for each day.

Knows what a copy looks like, and that it is there whole and for good, or not at all. Does not know which messages are
copied, nor when a copy that failed is tried again. Nothing is ever removed or overwritten.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from twisted.internet.defer import Deferred, fail

from inboundmx.model.address import written
from inboundmx.model.custody import Content, SpoolEntry
from inboundmx.model.settings import Settings
from inboundmx.ports import Contents, Damaged, Offload, Unavailable
from inboundmx.storage.disk import sync_folder, unavailable

# Octets of a large body that are in memory at a time.
BLOCK = 1024 * 1024
_ID = re.compile(r"[0-9A-Za-z]{1,64}")
# Folders known to be on the disk for good.
_FOLDERS = 100


class FileArchive:
    """``ports.Archive``. A copy is ``PATH/YYYY-MM-DD/MESSAGEID.eml`` by the day (UTC) it was received: the envelope as
    X-Envelope-From and X-Envelope-To, then the message with the fields we added, octet by octet. Where an other copy
    has that name (two archives share a folder), ``MESSAGEID-ENTRYID.eml``."""

    def __init__(self, settings: Callable[[], Settings], offload: Offload, contents: Contents) -> None:
        self._settings = settings
        self._offload = offload
        self._contents = contents
        # From looking for a free name until it is taken: threads keep copies of one message at the same time.
        self._naming = threading.Lock()
        self._lasting: set[str] = set()

    def keep(self, entry: SpoolEntry, content: Content) -> Deferred[str]:
        for archive in self._settings().archives:
            if archive.name == entry.domain:
                return self._offload.run(self._keep, archive.path, entry, content)
        return fail(Unavailable(f"there is no [archive {entry.domain}]"))

    # --- in a thread --------------------------------------------------------------------------------------------------

    def _keep(self, path: str, entry: SpoolEntry, content: Content) -> str:
        for id in (entry.message_id, entry.id):
            if not _ID.fullmatch(id):
                raise Damaged(f"{id!r} cannot be the name of a file")
        folder = os.path.join(path, time.strftime("%Y-%m-%d", time.gmtime(entry.received_at)))
        fresh = os.path.join(folder, f".{entry.message_id}-{entry.id}.new")
        try:
            self._make(path, folder)
            names = [f"{entry.message_id}.eml", f"{entry.message_id}-{entry.id}.eml"]
            places = [os.path.join(folder, name) for name in names]
            place, there = self._place(places, entry, content)
            if not there:
                _write(fresh, self._blocks(entry, content))
                with self._naming:
                    place, there = self._place(places, entry, content)
                    if not there:
                        os.rename(fresh, place)
            sync_folder(folder)
            return place
        except OSError as error:
            # It may have been removed.
            self._lasting.discard(folder)
            trouble = unavailable(error)
            raise type(trouble)(f"{folder}: {trouble.reason}") from error
        finally:
            with contextlib.suppress(OSError):
                os.unlink(fresh)

    def _place(self, places: Iterable[str], entry: SpoolEntry, content: Content) -> tuple[str, bool]:
        """Where the copy belongs, and whether it is there."""
        for place in places:
            if not os.path.exists(place):
                return place, False
            if _holds(place, self._blocks(entry, content)):
                return place, True
        raise Unavailable(f"{place} is there and is not this copy")

    def _make(self, path: str, folder: str) -> None:
        if folder in self._lasting:
            return
        os.makedirs(path, mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        sync_folder(path)
        sync_folder(os.path.dirname(os.path.abspath(path)))
        if len(self._lasting) >= _FOLDERS:
            self._lasting.clear()
        self._lasting.add(folder)

    def _blocks(self, entry: SpoolEntry, content: Content) -> Iterator[bytes]:
        """The copy, a piece at a time. Raises Damaged when the body is cut short, and Unavailable."""
        body = content.body
        yield envelope_fields(entry)
        yield content.prefix
        yield body.head[content.skip :]
        at = max(len(body.head), content.skip)
        while at < body.size:
            block = self._contents.part(body, at, min(BLOCK, body.size - at))
            if not block:
                raise Damaged(f"entry {entry.id}: the stored body is cut short")
            yield block
            at += len(block)


def envelope_fields(entry: SpoolEntry) -> bytes:
    """Two header fields with all that the envelope said, whatever its addresses hold."""
    recipients = ",\r\n ".join(_bracketed(written(recipient.address)) for recipient in entry.recipients)
    return f"X-Envelope-From: {_bracketed(written(entry.sender))}\r\nX-Envelope-To: {recipients}\r\n".encode()


def _bracketed(address: str) -> str:
    return "<" + "".join(sign if sign.isprintable() else "?" for sign in address) + ">"


def _write(path: str, blocks: Iterable[bytes]) -> None:
    """A file of our own, synced."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "wb", buffering=0) as file:
        for block in blocks:
            left = memoryview(block)
            while left:
                left = left[file.write(left) or 0 :]
        os.fsync(file.fileno())


def _holds(path: str, blocks: Iterable[bytes]) -> bool:
    """Whether a file is exactly this."""
    with open(path, "rb") as file:
        # One octet more than there should be is one too many.
        return all(file.read(len(block)) == block for block in blocks) and not file.read(1)
