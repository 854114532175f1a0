"""The grammar of the file: what is a section, a key, a value, a comment; everything wrong, with its line."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.app import ini


def keys(text: str) -> dict[str, dict[str, str]]:
    sections, problems = ini.read(text, "f.ini")
    assert problems == []
    return {section.name: {key: entry.value for key, entry in section.entries.items()} for section in sections}


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("", {}),
        ("# only\n; comments\n\n", {}),
        ("[a]", {"a": {}}),
        ("[ domain   example.com ]\n", {"domain example.com": {}}),
        ("[a]\nk = v", {"a": {"k": "v"}}),
        ("[a]\nK=v\n", {"a": {"k": "v"}}),
        ("[a]\r\nk = v\r\nl = w\r\n", {"a": {"k": "v", "l": "w"}}),
        ("[a]\nk =\n", {"a": {"k": ""}}),
        ("[a]\nk = a=b: c\n", {"a": {"k": "a=b: c"}}),
        ("[a]\nk = %(x)s ${y} 100%\n", {"a": {"k": "%(x)s ${y} 100%"}}),
        ("[a]\nk = v # not a comment\n", {"a": {"k": "v # not a comment"}}),
        ("[a]\nk = one\n  two\n\tthree\n", {"a": {"k": "one\ntwo\nthree"}}),
        ("[a]\nk =\n  one\n  # a comment\n\n  two\nl = x\n", {"a": {"k": "one\ntwo", "l": "x"}}),
        ("[a]\nprimary = x\n  [2001:db8::1]:25\n", {"a": {"primary": "x\n[2001:db8::1]:25"}}),
        ("[a]\nk = grüße\n", {"a": {"k": "grüße"}}),
        ("[a]\nk = 1\n[b]\nk = 2\n", {"a": {"k": "1"}, "b": {"k": "2"}}),
    ],
)
def test_what_is_read(text: str, read: dict[str, dict[str, str]]) -> None:
    assert keys(text) == read


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("k = v\n", "f.ini:1: k = v: stands before any [section]"),
        ("[a]\n\nword\n", "f.ini:3: word: no =; write key = value"),
        ("[a]\nkey: value\n", "f.ini:2: key: value: no =; write key = value"),
        ("[a]\n= v\n", "f.ini:2: = v: no key before the ="),
        ("[a] # mine\n", "f.ini:1: [a]: # mine after the ]; nothing may follow it"),
        ("[]\n", "f.ini:1: []: a section needs a name"),
        ("[a\n", "f.ini:1: [a: a section is written [name], alone on its line"),
        ("[a]\n  b\n", "f.ini:2: b: an indented line continues a value, and there is none"),
        ("[a]\nk = 1\nK = 2\n", "f.ini:3: [a] k = 2: k stands in line 2 already; keep one of them"),
        ("[a]\nk = a\x00b\n", "f.ini:2: the character U+0000 has no place in this file"),
        ("[a]\nk = a\rb = c\n", "f.ini:2: the character U+000D has no place in this file"),
        ("[a]\nk = \x1b[2J\n", "f.ini:2: the character U+001B has no place in this file"),
    ],
)
def test_what_is_refused(text: str, problem: str) -> None:
    _, problems = ini.read(text, "f.ini")
    assert [str(each) for each in problems] == [problem]


def test_keys_below_a_header_that_is_wrong_are_not_reported_each() -> None:
    sections, problems = ini.read("[a\nk = v\n  w\n[b]\nk = v\n", "f.ini")
    assert [problem.line for problem in problems] == [1]
    assert [section.name for section in sections] == ["b"]


def test_the_line_of_a_value_is_its_first() -> None:
    (section,), _ = ini.read("# x\n[a]\nk = 1\n  2\nl = 3\n", "f.ini")
    assert [(entry.line, entry.key) for entry in section.entries.values()] == [(3, "k"), (5, "l")]
    assert (section.file, section.line) == ("f.ini", 2)


@pytest.mark.parametrize(
    ("octets", "problem"),
    [
        (b"\xef\xbb\xbf[a]\n", "f:1: the file begins with a byte order mark; save it as UTF-8 without one"),
        (b"\xff\xfe[\x00a\x00]\x00", "f:1: the file is UTF-16; save it as UTF-8"),
        (b"[a]\nk = gr\xfc\xdfe\n", "f:2: octet 0xfc is not UTF-8; save the file as UTF-8"),
    ],
)
def test_octets_that_are_no_text(octets: bytes, problem: str) -> None:
    assert str(ini.decode(octets, "f")) == problem


def test_a_section_twice_names_both_places_and_its_keys_are_still_seen() -> None:
    first, _ = ini.read("[a]\nk = 1\n", "one.ini")
    again, _ = ini.read("\n[a]\nk = 2\nl = 3\n[a]\n", "two.ini")
    merged, problems = ini.merge(first + again)
    assert [str(problem) for problem in problems] == [
        "two.ini:2: [a]: this section stands in one.ini:1 already; make them one",
        "two.ini:5: [a]: this section stands in one.ini:1 already; make them one",
    ]
    assert {key: entry.value for key, entry in merged["a"].entries.items()} == {"k": "1", "l": "3"}


def test_a_long_value_is_shortened_in_what_is_said() -> None:
    (section,), _ = ini.read(f"[a]\nk = {'x' * 500}\n", "f.ini")
    assert len(section.entries["k"].said) < 100


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("[]=#; \tab\n\r\x00k"), max_size=60))
def test_no_text_breaks_the_reader_and_every_line_is_accounted_for(text: str) -> None:
    sections, problems = ini.read(text, "f.ini")
    lines = text.count("\n") + 1
    assert all(1 <= problem.line <= lines for problem in problems)
    assert all(1 <= entry.line <= lines for section in sections for entry in section.entries.values())
