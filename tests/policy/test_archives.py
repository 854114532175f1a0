"""The files in archives of every kind, honest and lying, and that nothing makes reading them fail or go on for long."""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import tarfile
import time
import zipfile
from collections.abc import Iterator

import pytest
from fakes.archive_samples import (
    ARCHIVES,
    HELLO,
    LISTED,
    ONE,
    PAIR,
    PE,
    flagged,
    named,
    overlapping,
    pax,
    rar4,
    rar5,
    seven,
    seven_of,
    tar_entry,
    tarred,
    tnef,
    zipped,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.policy.archives import entries
from inboundmx.policy.file_types import true_type
from inboundmx.policy.unpacking import Broken, Budget, Entry, Sealed, TooDeep

MB = 1024 * 1024


def budget(size: int = 64 * MB, files: int = 1000, ratio: int = 250, deadline: float = 1.0) -> Budget:
    return Budget(size, files, ratio, lambda: 0.0, deadline)


def opened(octets: bytes, name: str = "x", within: Budget | None = None) -> Iterator[Entry]:
    return entries(octets, true_type(octets), name, within or budget(), None)


def content(entry: Entry) -> bytes:
    assert entry.content is not None
    return b"".join(entry.content())


@pytest.mark.parametrize("octets", ARCHIVES.values(), ids=list(ARCHIVES))
def test_every_file_is_found_and_read(octets: bytes) -> None:
    found = {entry.names[0]: content(entry) for entry in opened(octets)}
    assert {name: found[name] for name in PAIR} == PAIR
    assert set(found) <= {*PAIR, "x.dat"}
    assert not any(entry.encrypted or entry.wrong for entry in opened(octets))


def test_files_of_one_stream_need_not_be_read_to_their_ends() -> None:
    found = [(entry.names[0], next(entry.content())) for entry in opened(seven("lzma2")) if entry.content is not None]
    assert [name for name, _ in found] == ["a.txt", "evil.pdf", "x.dat"]
    assert all(octets in (HELLO, PE) for _, octets in found)
    *_, last = opened(seven("lzma2"))
    assert last.names == ("x.dat",) and content(last) == PE


@pytest.mark.parametrize("octets", ONE.values(), ids=list(ONE))
def test_what_is_only_compressed_is_named_without_its_extension(octets: bytes) -> None:
    [entry] = opened(octets, "evil.exe.gz")
    assert entry.names == ("evil.exe",) and content(entry) == PE


@pytest.mark.parametrize(("name", "inner"), [("a.tgz", "a.tar"), ("a.TXZ", "a.tar"), ("a", "a"), ("a.tar.gz", "a.tar")])
def test_short_extensions(name: str, inner: str) -> None:
    assert next(opened(ONE["gzip"], name)).names == (inner,)


def test_gzip_may_know_another_name() -> None:
    octets = bytearray(gzip.compress(PE))
    octets[3] = 8
    octets[10:10] = b"evil.exe\0"
    [entry] = opened(bytes(octets), "a.pdf.gz")
    assert entry.names == ("a.pdf", "evil.exe") and content(entry) == PE


def test_one_stream_may_follow_another() -> None:
    [entry] = opened(gzip.compress(b"a") + gzip.compress(PE) + b"\0" * 100)
    assert content(entry) == b"a" + PE


@pytest.mark.parametrize("octets", LISTED.values(), ids=list(LISTED))
def test_what_cannot_be_read_is_listed(octets: bytes) -> None:
    found = list(opened(octets))
    assert [entry.names[0] for entry in found][:2] == ["a.txt", "evil.pdf"]
    assert all(entry.content is None and not entry.encrypted and not entry.wrong for entry in found)


@pytest.mark.parametrize(
    "octets",
    [flagged(zipped({"a.txt": HELLO}), 1), seven("encrypted"), rar5(("a.txt", True)), rar4(("a.txt", True))],
)
def test_encrypted_files_have_names(octets: bytes) -> None:
    [entry] = opened(octets)
    assert entry.names == ("a.txt",) and entry.encrypted and entry.content is None


@pytest.mark.parametrize(
    "octets",
    [flagged(zipped({"a.txt": HELLO}), 0x2001), seven("sealed"), rar5(sealed=True), rar4(sealed=True),
     b"PK\6\x08" + b"\0" * 100],
)  # fmt: skip
def test_an_encrypted_table_of_contents(octets: bytes) -> None:
    with pytest.raises(Sealed):
        list(opened(octets))


def test_long_names_of_tar() -> None:
    long = "folder/" * 30 + "evil.exe"
    for style in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        [entry] = opened(tarred({long: PE}, style))
        assert entry.names[0] == long and content(entry) == PE


# --- archives that lie ------------------------------------------------------------------------------------------------


def altered(octets: bytes, *changes: tuple[bytes, int, str, int]) -> bytes:
    """With numbers of records of a zip archive replaced: mark, place in the record, form, value."""
    made = bytearray(octets)
    for mark, place, form, value in changes:
        struct.pack_into(form, made, made.find(mark) + place, value)
    return bytes(made)


PLAIN = zipped({"a.txt": PE})
END = PLAIN.find(b"PK\5\6")
HIDDEN = zipped({"evil.exe": PE})[: zipped({"evil.exe": PE}).find(b"PK\1\2")]
LIES = {
    "a name that differs": altered(PLAIN, (b"PK\3\4", 30, "<B", ord("b"))),
    "a method that differs": altered(PLAIN, (b"PK\1\2", 10, "<H", 0)),
    "a size that differs": altered(PLAIN, (b"PK\1\2", 20, "<I", 7)),
    "a place that is wrong": altered(PLAIN, (b"PK\1\2", 42, "<I", 9)),
    "a hidden file before it": HIDDEN + PLAIN,
    "a hidden file within": HIDDEN[:-1] + b"\0" + PLAIN,
    "a count that is wrong": altered(PLAIN, (b"PK\5\6", 10, "<H", 5)),
    "two tables of contents": PLAIN + PLAIN,
    "cut off": PLAIN[: PLAIN.find(b"PK\1\2")],
    "large fields that lie":
        PLAIN[:END]
        + struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, END - PLAIN.find(b"PK\1\2"), 0)
        + struct.pack("<4sIQI", b"PK\6\7", 0, END, 1) + PLAIN[END:],
}  # fmt: skip


@pytest.mark.parametrize("octets", LIES.values(), ids=list(LIES))
def test_what_readers_disagree_about_is_said(octets: bytes) -> None:
    assert any(entry.wrong for entry in opened(octets))


def test_a_hidden_file_is_found() -> None:
    names = {name: entry for entry in opened(HIDDEN + PLAIN) for name in entry.names}
    assert set(names) == {"a.txt", "evil.exe"} and content(names["evil.exe"]) == PE


def test_a_file_with_two_names_has_both() -> None:
    [entry] = opened(LIES["a name that differs"])
    assert set(entry.names) == {"a.txt", "b.txt"} and content(entry) == PE


JS = tar_entry(b"evil.js", b"hello")
TARS = {
    "a kind that nobody knows": (tar_entry(b"evil.js", b"hello", b"Z"), False),
    "a name behind what looks like one":
        (pax(comment="x path=a.txt", path="evil.js") + tar_entry(b"b.txt", b""), False),
    "a name for all": (pax(b"g", path="evil.js") + tar_entry(b"a", b"") * 2, False),
    "the name of a sparse file": (pax(GNU_sparse_name="evil.js") + tar_entry(b"a.txt", b""), False),
    "a sparse file": (pax(GNU_sparse_major="1", GNU_sparse_name="evil.js") + tar_entry(b"a.txt", b"1"), True),
    "a smaller size": (pax(size="0") + tar_entry(b"a.txt", JS), True),
    "a size that is none": (pax(size="-512") + tar_entry(b"a.txt", b"hello") + JS, False),
    "a link that is large": (tar_entry(b"a.txt", JS, b"2"), True),
    "a folder that is large": (tar_entry(b"a/", JS, b"\0"), True),
    "more of a sparse file": (tar_entry(b"a.txt", b"", b"S", b"\1") + bytes(512) + JS, False),
    "a long name and that of a link":
        (tar_entry(b"l", b"evil.js\0", b"L") + tar_entry(b"k", b"b.txt\0", b"K") + tar_entry(b"a", b""), False),
}  # fmt: skip


@pytest.mark.parametrize(("octets", "wrong"), TARS.values(), ids=list(TARS))
def test_names_in_tar_are_all_that_readers_see(octets: bytes, wrong: bool) -> None:
    found = list(opened(octets + bytes(1024)))
    assert any(entry.wrong for entry in found) or "evil.js" in found[-1].names
    assert any(entry.wrong for entry in found) == wrong


def test_more_than_is_read_about_a_file_of_tar_is_damage() -> None:
    with pytest.raises(Broken):
        list(opened(pax(comment="x" * 70_000, path="evil.js") + tar_entry(b"a.txt", b"")))


def test_digests_of_7z_are_those_that_its_folders_lack() -> None:
    # Read as if there were some in the second place as well, the names are those that a property hides.
    hidden = b"\0" * 4 + b"\5\2" + named("a.txt", "b.txt")
    header = b"\1\4\6\0\2\x09\5\5\0\7\x0b\2\0\1\1\0\1\1\0\x0c\5\5\x0a\1" + b"crc1crc2" + b"\0\x08\x0a\1\0\0"
    header += b"\5\2\x19" + bytes([len(hidden)]) + hidden + named("c.js", "d.vbs") + b"\0"
    assert [(entry.names, content(entry)) for entry in opened(seven_of(header, b"helloworld"))] == [
        (("c.js",), b"hello"),
        (("d.vbs",), b"world"),
    ]


def test_more_coders_than_are_read_are_no_other_archive() -> None:
    # The last of 33 has properties that go on as if there were 32.
    hidden = b"\1" + b"".join(bytes([0, number]) for number in range(2, 31))
    hidden += b"\x0c" + b"\5" * 32 + b"\0\0\5\1" + named("a.txt") + b"\0"
    header = b"\1\4\6\0\1\x09\5\0\7\x0b\1\0\x21" + b"\1\0" * 32 + b"\x21\0" + bytes([len(hidden)]) + hidden
    header += b"".join(bytes([number + 1, number]) for number in range(32)) + b"\x0c" + b"\5" * 33 + b"\0\0"
    header += b"\5\1" + named("c.js") + b"\0"
    with pytest.raises(Broken):
        list(opened(seven_of(header, b"hello")))


@pytest.mark.parametrize(("place", "form"), [(24, "<I"), (22, "<I")])
@pytest.mark.parametrize("size", [1, 10**6])
def test_a_file_that_is_not_as_large_as_it_says(place: int, form: str, size: int) -> None:
    mark = b"PK\1\2" if place == 24 else b"PK\3\4"
    [entry] = opened(altered(PLAIN, (mark, place, form, size)))
    if mark == b"PK\1\2":
        with pytest.raises(Broken):
            content(entry)
    else:
        assert content(entry) == PE


@pytest.mark.parametrize(
    "octets",
    [
        b"Rar!\x1a\7\2\0xxxx", b"Rar!\x1a\7\0" + b"\0" * 30, b"7z\xbc\xaf\x27\x1c\0\4" + b"\xff" * 30,
        altered(PLAIN, (b"PK\5\6", 4, "<H", 3)), b"\x78\x9f\x3e\x22\1\0" + b"\7" * 30,
        b"x" * 257 + b"ustar\x0000" + b"7" * 247,
    ],
)  # fmt: skip
def test_damage_is_said(octets: bytes) -> None:
    with pytest.raises(Broken):
        list(opened(octets))


@pytest.mark.parametrize("octets", [octets[:-4] for octets in ONE.values()], ids=list(ONE))
def test_a_stream_that_ends_too_early(octets: bytes) -> None:
    [entry] = opened(octets)
    with pytest.raises(Broken):
        content(entry)


# --- limits -----------------------------------------------------------------------------------------------------------

ZEROS = bytes(8 * MB)


def unpack(octets: bytes, within: Budget) -> None:
    """All of it, as the check does."""
    within.begin(len(octets))
    for entry in opened(octets, "x", within):
        if entry.content is not None:
            for piece in entry.content():
                within.take(len(piece))


BOMBS = {
    "zip": zipped({"a": ZEROS}),
    "files that are one": overlapping(1000, MB),
    "gzip": gzip.compress(ZEROS),
    "gzip, 10 GB": gzip.compress(ZEROS) * 1200,
    "xz": lzma.compress(ZEROS),
    "tar": tarred({f"{number}": b"" for number in range(2000)}),
    "many files": zipped({f"{number}": b"" for number in range(2000)}),
    "hidden files": HIDDEN * 2000,
    "tnef": tnef({f"{number}": b"" for number in range(2000)}),
    "rar5": rar5(*[("a.txt", False)] * 2000),
    "rar4": rar4(*[("a.txt", False)] * 2000),
}


@pytest.mark.parametrize("octets", BOMBS.values(), ids=list(BOMBS))
def test_bombs_meet_a_limit_soon(octets: bytes) -> None:
    before = time.process_time()
    with pytest.raises(TooDeep):
        unpack(octets, budget())
    assert time.process_time() - before < 2.0


@pytest.mark.parametrize(
    ("within", "limit"),
    [
        (budget(size=MB), "too much to unpack"),
        (budget(ratio=10), "more than 10 times"),
        (budget(files=0), "too many files"),
        (budget(deadline=-1.0), "no time"),
    ],
)
def test_which_limit_it_was_is_said(within: Budget, limit: str) -> None:
    with pytest.raises(TooDeep, match=limit):
        unpack(BOMBS["zip"], within)


def test_small_things_may_grow_as_they_like() -> None:
    unpack(gzip.compress(bytes(MB)), budget(ratio=1))


KINDS = {**ARCHIVES, **ONE, **LISTED, **LIES, "encrypted": seven("encrypted"), "sealed": seven("sealed"),
         "zip, empty": zipped({}), "zip, aes": flagged(PLAIN, 1)}  # fmt: skip
WAYS = ["set", "cut", "double", "ones", "zeros"]
CHANGE = st.tuples(st.integers(0, 10**6), st.sampled_from(WAYS), st.integers(0, 255))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.lists(CHANGE, max_size=6))
def test_no_damage_makes_it_raise_anything_else(kind: str, changes: list[tuple[int, str, int]]) -> None:
    octets = bytearray(KINDS[kind])
    word = true_type(KINDS[kind])
    for place, what, value in changes:
        at = place % (len(octets) + 1)
        if what == "set" and at < len(octets):
            octets[at] = value
        elif what == "cut":
            del octets[at : at + value]
        elif what == "double":
            octets[at:at] = octets[at : at + value]
        else:
            octets[at : at + 4] = b"\xff\xff\xff\xff" if what == "ones" else b"\0\0\0\0"
    within = budget(size=4 * MB)
    try:
        for entry in entries(bytes(octets), word, "x", within, None):
            if entry.content is not None:
                try:
                    for piece in entry.content():
                        within.take(len(piece))
                except (Broken, ValueError):
                    continue
    except (Broken, Sealed, TooDeep):
        pass


def test_unknown_ways_to_pack_are_left_alone() -> None:
    octets = altered(PLAIN, (b"PK\3\4", 8, "<H", 9), (b"PK\1\2", 10, "<H", 9))
    [entry] = opened(octets)
    assert entry.content is None and not entry.wrong and not entry.encrypted
    assert zipfile.is_zipfile(io.BytesIO(octets))
