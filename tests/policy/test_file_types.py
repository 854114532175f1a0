"""Kinds of files by their first octets, and names that deceive."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.policy import macros
from inboundmx.policy.file_names import RUNS, USUAL, Names
from inboundmx.policy.file_types import ARCHIVES, WORDS, true_type

PE = b"MZ\x90\0\x03\0\0\0" + b"\0" * 56 + b"PE\0\0"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 504

SAMPLES = {
    "pe": [PE, b"ZM" + b"\0" * 60],
    "elf": [b"\x7fELF\2\1\1" + b"\0" * 9],
    "macho": [b"\xcf\xfa\xed\xfe" + b"\0" * 28, b"\xca\xfe\xba\xbe\0\0\0\2" + b"\0" * 40],
    "java": [b"\xca\xfe\xba\xbe\0\0\0\x34\0\x10"],
    "wasm": [b"\0asm\1\0\0\0"],
    "msi": [OLE + b"\x84\x10\x0c\0\0\0\0\0\xc0\0\0\0\0\0\0F" + b"\0" * 400],
    "lnk": [b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0F" + b"\0" * 50],
    "url": [b"[InternetShortcut]\r\nURL=file://192.0.2.1/x\r\n", b"\xef\xbb\xbf[internetshortcut]\r\n"],
    "script": [b"#!/bin/sh\nrm -rf /\n"],
    "hta": [b"<html><head><HTA:APPLICATION ID='x'></head></html>"],
    "chm": [b"ITSF\3\0\0\0" + b"\0" * 50],
    "onenote": [b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3" + b"\0" * 50],
    "iso": [b"\0" * 32768 + b"\1CD001\1"],
    "vhd": [b"conectix\0\0\0\2", b"vhdxfile" + b"\0" * 8],
    "swf": [b"CWS\x0a" + b"\0" * 20],
    "cab": [b"MSCF\0\0\0\0" + b"\0" * 30],
    "ace": [b"\x60\xea\x1e\0", b"\x20\x36-lh5-abc", b"ALZ\1\n\0", b"EGGA\0\1"],
    "zip": [b"PK\3\4\x14\0", b"PK\5\6" + b"\0" * 18, b"PK00PK\3\4\x14\0"],
    "rar": [b"Rar!\x1a\7\1\0", b"Rar!\x1a\7\0"],
    "7z": [b"7z\xbc\xaf\x27\x1c\0\4"],
    "tar": [b"a.txt" + b"\0" * 252 + b"ustar\x0000" + b"\0" * 247],
    "gzip": [b"\x1f\x8b\x08\0" + b"\0" * 6],
    "bzip2": [b"BZh91AY&SY", b"BZh9\x17rE8P\x90"],
    "xz": [b"\xfd7zXZ\0\0\4", b"\x5d\0\0\x80\0" + b"\xff" * 8],
    "zstd": [b"\x28\xb5\x2f\xfd\x04\0"],
    "tnef": [b"\x78\x9f\x3e\x22\1\0"],
    "ole": [OLE],
    "rtf": [b"{\\rtf1\\ansi", b"{\\rt0"],
    "pdf": [b"%PDF-1.7\n", b"\r\n%PDF-1.4"],
    "html": [b"<!DOCTYPE html><p>", b"\n<script>alert(1)</script>"],
    "": [
        b"", b"M", b"MZ", b"MZ is what an old programmer signed his files with, and this is a letter about him.",
        b"hello world", b"BZhang wrote", b"CWS is short", b"]\0\0 no", b"PK is short for", b"\x89PNG\r\n\x1a\n", b"[x]",
        b"\x1f\x8b", b"Rare!", b"conect", b"LaTeX", b"%!PS",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("word", "octets"), [(word, octets) for word, all_ in SAMPLES.items() for octets in all_])
def test_what_begins_so_is_of_this_kind(word: str, octets: bytes) -> None:
    assert true_type(octets) == word


def test_every_kind_has_a_sample() -> None:
    assert set(SAMPLES) - {""} == set(WORDS)
    assert set(WORDS) >= ARCHIVES


@given(st.binary(max_size=300))
def test_any_octets_are_of_some_kind_or_none(octets: bytes) -> None:
    assert true_type(octets) in {"", *WORDS}


FORBIDDEN = [
    "invoice.exe", "INVOICE.EXE", "invoice.pdf.exe", "invoice.pdf .exe", "invoice.exe.", "invoice.exe . ", "a.exe:x",
    "a:b.exe", 'a.exe"', "'a.exe'",
    "a.exe::$DATA", "C:\\temp\\a.exe", "../../a.exe", "a.exe/", "a.exe\0.pdf", "a.e\u200bxe", "a\uff0eexe",
    "a.pdf" + " " * 300 + ".scr", "x" * 3000 + ".exe", "a.txt.{3050f4d8-98b5-11cf-bb82-00aa00bdce0b}", "a.vbs\r\n",
    "a.\uff45xe", "invoice\u202efdp.exe", "invoice\u202efdp.txt", "a\u2066b.pdf", ".exe", "a.exe\u3002",
]  # fmt: skip
ALLOWED = [
    "",
    "a",
    "a.pdf",
    "exe",
    "a.exe.pdf",
    "my.executive",
    "a.tar.gz",
    "Übersicht.docx",
    "日本語.pdf",
    "a:b.pdf",
    "..",
]


@pytest.mark.parametrize("name", FORBIDDEN)
def test_names_of_programs_in_every_guise(name: str) -> None:
    assert Names([USUAL]).wrong(name)


@pytest.mark.parametrize("name", ALLOWED)
def test_names_that_are_let_in(name: str) -> None:
    assert Names([USUAL]).wrong(name) == ""


@pytest.mark.parametrize(
    ("globs", "name", "wrong"),
    [
        (["html"], "a.HTML", True),
        ([".html"], "a.html", True),
        (["*.html"], "a.html", True),
        (["*.html"], "a.exe", False),
        (["USUAL", "html"], "a.exe", True),
        (["*invoice*.html"], "my-Invoice-7.html", True),
        (["*invoice*.html"], "letter.html", False),
        (["winmail.dat"], "winmail.dat", True),
        (["winmail.dat"], "a.dat", False),
        (["?.[ab]c"], "x.bc", True),
        ([], "a.exe", False),
    ],
)
def test_globs_of_the_operator(globs: list[str], name: str, wrong: bool) -> None:
    assert bool(Names(globs).wrong(name)) is wrong


def test_a_name_without_extension_may_be_told_by_a_glob() -> None:
    assert Names(["readme?"]).wrong("README1") and not Names(["readme?"]).wrong("readme")


def test_too_many_globs_are_refused() -> None:
    with pytest.raises(ValueError, match="1000"):
        Names(["x"] * 1001)


def test_no_name_takes_long() -> None:
    names = Names([USUAL, "*a*a*a*a*a*a*a*b", "*" * 50 + "x" + "*?" * 20])
    before = time.process_time()
    for name in ("a" * 1000, "a." * 500, "\u202d" * 0 + "\uff41" * 1000, " ." * 500, "/" * 1000, "\\" * 1000):
        names.wrong(name)
    assert time.process_time() - before < 2.0


def test_the_usual_extensions_are_words() -> None:
    assert all(word == word.lower() and "." not in word for word in RUNS) and len(set(RUNS)) == len(RUNS)


def wide(text: str) -> bytes:
    return text.encode("utf-16-le")


SHEET = b"\x85\0\x0e\0" + b"\x10\x20\0\0" + b"\0\1" + b"\6\0Macro1"


@pytest.mark.parametrize(
    ("octets", "found"),
    [
        (OLE + wide("_VBA_PROJECT"), True),
        (OLE + wide("Workbook") + SHEET, True),
        (OLE + wide("Workbook") + SHEET.replace(b"\0\1\6", b"\0\0\6"), False),
        (OLE + wide("Workbook") + SHEET.replace(b"\x0e\0", b"\x0f\0"), False),
        (OLE + SHEET, False),
        (OLE + wide("WordDocument"), False),
    ],
)
def test_macros_in_old_documents(octets: bytes, found: bool) -> None:
    assert macros.in_compound_file(octets) is found
    assert macros.sealed_compound_file(octets + wide("EncryptedPackage"))
    assert not macros.sealed_compound_file(octets)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("word/vbaProject.bin", True), ("xl/VBAPROJECT.BIN", True), ("xl/macrosheets/sheet1.xml", True),
        ("Basic/Standard/Module1.xml", True), ("Scripts/python/x.py", True), ("word/document.xml", False),
        ("a/basics/x.xml", False), ("docs/vbaProject.bin.txt", False),
    ],
)  # fmt: skip
def test_macros_in_new_documents(name: str, found: bool) -> None:
    assert macros.is_part(name) is found
