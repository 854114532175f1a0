"""Archives for tests: made here, and for what the standard library cannot write, written down."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib

PE = b"MZ\x90\0" + b"\0" * 200
HELLO = b"hello\n"
PAIR = {"a.txt": HELLO, "evil.pdf": PE}

# Of 7-Zip: a.txt, evil.pdf as above, the second of them also as x.dat where there are three, and the folder d.
SEVEN = {
    "lzma2": "N3q8ryccAAQG0FYBpAAAAAAAAAAiAAAAAAAAANY2Z7TgAZ0AE10ANBlJ7o3dClaN+z2Znafw/TMAAAAAAIEzB64Pz7XvEA/r6py/"
    "Nj3+1DSeOgZTUQ5yDYaw9WlUehaOfmP63HgXgXZO8BhztPnujr1oHl2wsZ0TOJMZ812QfhXwe6xptyojIBb3VcXo5g6V9beOc+uO"
    "JKM0FWk40j2GY+F9TY2vUD+FKCtSvbjrlSSBv1Yctpid0u/O5I4J3F4Z+AAAABcGGwEJgIkABwsBAAEjAwEBBV0AEAAADICuCgEU"
    "DECtAAA=",
    "ppmd": "N3q8ryccAAQNeP0znwAAAAAAAAAiAAAAAAAAAG7CE54AZ/uDfXAA1Ud+3+BJfjEgAAAAAACBMweuD88n8IwHyEOAg4LivCxurV5N"
    "nLoj8+o5POtvwqEzuh32JxTSTTZfpYRNL/7U9umzz78TYNvZK/DDAJoIJPDhEtz9gGpI6jO3YjChYqu34MiIiWYsaYrjIYDLs2FI"
    "BEzo6zEL/8AEowEXuX6JYMJA8aEMIu9/BdYZX8EjrNqu1hmkKJAwAAAXBhMBCYCMAAcLAQABIwMBAQVdABAAAAyArgoB+KjtawAA",
    "bcj2": "N3q8ryccAAR5t656jAAAAAAAAAAhAAAAAAAAAJsIXbIANBlJ7o3dClaN+z2ZgooAAAAAAAAAAAAAAAAAAAAAAAAAgTMHrm2/eA/00osj"
    "lu2iBWTzLcPTW1oYGts7ZMxTqWxq+R8GxHeeXjDaonaGo9ea5oo8j/LRbpy+YFuqQrB7COmvQdczmDyMFnw6cCoZNe8D64YnZVQNPdZ6"
    "1CPLoPtbPLTYh70VIh0AABcGIAEJbAAHCwEAASMDAQEFXQAQAAAMgI4KAZwhhNoAAA==",
    "encrypted": "N3q8ryccAATsUHNVEAAAAAAAAABiAAAAAAAAAEhQzpYc29hDPeE39vcEWxqBrP2RAQQGAAEJEAAHCwEAAiQG8QcBElMPyd8W"
    "i1px4Po2hzBYJgVheyEhAQABAAwKBgAICgEgMDo2AAAFARkBABENAGEALgB0AHgAdAAAABQKAQA6eHIngHrdARUGAQAggKSBAAA=",
    "sealed": "N3q8ryccAAQxBWdCgAAAAAAAAAAuAAAAAAAAAFV7R7QbPISwkHA9s/Axlsjf0AEA1s+BTeIYWzVRb8C8aP7KnpsWCE1A/8W7mRUL"
    "vaZ2IuS12esdcZp2/AV/pXdmxyVAY9drCSOAi8pUHg9tvso+2gFx+Ti1GTb7XKsten97GCqcHcdr8b6S3KVYdHBrnN8NmbhfuR0X"
    "6km0thypO7GeyhcGEAEJcAAHCwEAASQG8QcBElMPK8zlXn943kVG1pTIUjpskAxiCgHhwM7xAAA=",
    "apart": "N3q8ryccAAQBXkTZgwAAAAAAAAAgAAAAAAAAAMoCNbkBAAVoZWxsbwoA4ADLAApdACaWjnANjiNgAAAAAACBMweuMZjjTW9ofViW"
    "vQWpDTjR1/n/lyDO9nmoqaKKtVwkGDgpRJPBKqYUhsMGPFbwfKWgiO4+CJTjMPvCRAcChvj8qnx6cgGK4rmTWw4oeztZaJJFpxRr"
    "GIjgOb2/evC9r+IAABcGHAEJZwAHCwEAASMDAQEFXQAQAAAMdgoBWK2D2QAA",
    "branches": "N3q8ryccAATwCIPJhgAAAAAAAAAhAAAAAAAAAO7ciVMANBlJ7o3dClaN+z2ZgooAAAAAgTMHrg/PBHGMB7DD2ptss4Sk1fptv/V/"
    "8ZgaBRfNlYX4nixTeskHsGo12nat0UrvhJ3JD2MfrjKI8uS/LO8rYlizJLRaOROLW8HSagWqYxV67bCERKerWHY5EXdlUfHLcCkq"
    "Yo63fdsm/Q0Youo7WAAAABcGEQEJdQAHCwEAASMDAQEFXQAQAAAMgIYKAZzWK7AAAA==",
}


def seven(name: str) -> bytes:
    return base64.b64decode(SEVEN[name])


def seven_of(header: bytes, packed: bytes) -> bytes:
    start = struct.pack("<QQI", len(packed), len(header), zlib.crc32(header))
    return b"7z\xbc\xaf\x27\x1c\0\4" + struct.pack("<I", zlib.crc32(start)) + start + packed + header


def named(*names: str) -> bytes:
    """What a header of 7z has of its files but for their number."""
    octets = b"".join(name.encode("utf-16-le") + b"\0\0" for name in names)
    return b"\x11" + bytes([len(octets) + 1]) + b"\0" + octets + b"\0"


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, octets in files.items():
            archive.writestr(name, octets)
    return made.getvalue()


def tarred(files: dict[str, bytes], style: int = tarfile.GNU_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=style) as archive:
        for name, octets in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(octets)
            archive.addfile(entry, io.BytesIO(octets))
    return made.getvalue()


def tar_entry(name: bytes, octets: bytes, kind: bytes = b"0", flag: bytes = b"\0") -> bytes:
    """One entry of a tar archive, as such that libraries would not write; ``flag``: of a sparse file, at 482."""
    size, blank = b"%011o" % len(octets), b" " * 8
    fields = [(0, name), (124, size), (148, blank), (156, kind), (257, b"ustar\x0000"), (482, flag)]
    block = bytearray(512)
    for at, field in fields:
        block[at : at + len(field)] = field
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + octets + bytes(-len(octets) % 512)


def pax(kind: bytes = b"x", **said: str) -> bytes:
    """What a tar archive may say of the next entry, or of all (g); dots of keywords as underscores."""
    records = b""
    for keyword, value in said.items():
        record = f" {keyword.replace('_', '.')}={value}\n".encode()
        length = len(record) + 2 if len(record) < 98 else len(record) + 3
        records += b"%d" % length + record
    return tar_entry(b"pax", records, kind)


def flagged(archive: bytes, bits: int) -> bytes:
    """Every file of a zip archive with these bits set, in both of its tables."""
    made = bytearray(archive)
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = made.find(mark)
        while at >= 0:
            (flags,) = struct.unpack_from("<H", made, at + place)
            struct.pack_into("<H", made, at + place, flags | bits)
            at = made.find(mark, at + 4)
    return bytes(made)


def rar5(*files: tuple[str, bool], sealed: bool = False) -> bytes:
    def header(content: bytes, data: bytes = b"") -> bytes:
        return b"\0\0\0\0" + bytes([len(content)]) + content + data

    made = b"Rar!\x1a\7\1\0" + (header(b"\4\0\0") if sealed else header(b"\1\0\0"))
    for name, encrypted in files:
        extra = b"\2\1\0" if encrypted else b""
        begin = b"\2\3" + bytes([len(extra)]) + b"\5" if extra else b"\2\2\5"
        made += header(begin + b"\0\5\x20\0\0" + bytes([len(name)]) + name.encode() + extra, b"xxxxx")
    return made + header(b"\5\0\0")


def rar4(*files: tuple[str, bool], sealed: bool = False) -> bytes:
    made = b"Rar!\x1a\7\0" + struct.pack("<HBHHHI", 0, 0x73, 0x80 if sealed else 0, 13, 0, 0)
    for name, encrypted in files:
        flags = 0x8000 | (4 if encrypted else 0)
        made += struct.pack("<HBHHII", 0, 0x74, flags, 32 + len(name), 5, 5) + b"\0" * 11
        made += struct.pack("<HI", len(name), 0) + name.encode() + b"xxxxx"
    return made + struct.pack("<HBHH", 0, 0x7B, 0, 7)


def tnef(files: dict[str, bytes]) -> bytes:
    def attribute(kind: int, data: bytes) -> bytes:
        return struct.pack("<BII", 2, kind, len(data)) + data + struct.pack("<H", sum(data) & 0xFFFF)

    made = b"\x78\x9f\x3e\x22\1\0"
    for name, octets in files.items():
        made += attribute(0x00018010, name.encode() + b"\0") + attribute(0x0006800F, octets)
    return made


def overlapping(files: int, size: int) -> bytes:
    """A zip archive whose files are all the same octets."""
    data = zlib.compress(bytes(size), 9)[2:-4]
    crc = zlib.crc32(bytes(size))
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 8, 0, 0, crc, len(data), size, 1, 0) + b"a" + data
    one = struct.pack("<4sHHHHHHIII", b"PK\1\2", 20, 20, 0, 8, 0, 0, crc, len(data), size)
    listed = (one + struct.pack("<HHHHHII", 1, 0, 0, 0, 0, 0, 0) + b"a") * files
    return local + listed + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, files, files, len(listed), len(local), 0)


ARCHIVES = {
    "zip": zipped(PAIR),
    "zip, stored": zipped(PAIR, zipfile.ZIP_STORED),
    "zip, bzip2": zipped(PAIR, zipfile.ZIP_BZIP2),
    "zip, lzma": zipped(PAIR, zipfile.ZIP_LZMA),
    "tar": tarred(PAIR),
    "tar, pax": tarred(PAIR, tarfile.PAX_FORMAT),
    "7z": seven("lzma2"),
    "7z, apart": seven("apart"),
    "7z, branches": seven("branches"),
    "tnef": tnef(PAIR),
}
ONE = {"gzip": gzip.compress(PE), "bzip2": bz2.compress(PE), "xz": lzma.compress(PE),
       "lzma": lzma.compress(PE, lzma.FORMAT_ALONE)}  # fmt: skip
LISTED = {"rar5": rar5(("a.txt", False), ("evil.pdf", False)), "rar4": rar4(("a.txt", False), ("evil.pdf", False)),
          "7z, ppmd": seven("ppmd"), "7z, bcj2": seven("bcj2")}  # fmt: skip


def zips_in_zips(depth: int = 5, each: int = 16, size: int = 8 * 2**20) -> bytes:
    """Some KB, of which ``each`` to the power of ``depth - 1`` times ``size`` octets can be unpacked."""
    made = zipped({"x": bytes(size)})
    for _ in range(depth - 1):
        made = zipped({str(number): made for number in range(each)})
    return made


def without_end(packed: bytes, octets: int, size: int) -> bytes:
    """``packed``, which is ``size`` octets when unpacked, so often one behind the other that it is ``octets``."""
    return packed * (octets // size)
