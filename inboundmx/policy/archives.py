"""The files in an archive, whatever its kind.

Knows which part reads which kind. Does not know the kinds, nor what is allowed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping

from inboundmx.policy.archive_entries import compressed, rar, tar, tnef
from inboundmx.policy.seven_zip import seven_zip
from inboundmx.policy.unpacking import Broken, Budget, Decompressor, Entry
from inboundmx.policy.zip_entries import entries as zip_entries

_READERS: Mapping[str, Callable[[bytes, Budget], Iterator[Entry]]] = {
    "rar": rar,
    "7z": seven_zip,
    "tar": tar,
    "tnef": tnef,
}
# What zip archives call zstd.
_ZIP_ZSTD = 93


def entries(
    octets: bytes, kind: str, name: str, budget: Budget, zstd: Callable[[], Decompressor] | None
) -> Iterator[Entry]:
    """``kind``: one of ``file_types.ARCHIVES``; ``name``: of the archive, for what is only compressed. Raises Broken,
    Sealed and TooDeep; what it gave until then holds."""
    try:
        if kind == "zip":
            yield from zip_entries(octets, budget, {} if zstd is None else {_ZIP_ZSTD: zstd})
        elif kind in _READERS:
            yield from _READERS[kind](octets, budget)
        else:
            yield from compressed(octets, kind, name, budget, {} if zstd is None else {"zstd": zstd})
    except (struct.error, IndexError, ValueError) as error:
        raise Broken("an archive that is damaged") from error
