"""``ports.Archive`` in memory."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed

from inboundmx.model.custody import Content, SpoolEntry


class FakeArchive:
    """``trouble``: what keeping fails with. ``kept``: the ids of entries there is a copy of."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.trouble: Exception | None = None

    def keep(self, entry: SpoolEntry, content: Content) -> Deferred[str]:
        if self.trouble is not None:
            return fail(self.trouble)
        self.kept[entry.id] = content.prefix + content.body.head[content.skip :]
        return succeed(f"/archive/{entry.message_id}.eml")
