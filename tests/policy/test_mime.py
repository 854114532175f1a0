"""The walk through a message: what it finds, what it marks, and that nothing a stranger writes makes it fail."""

from __future__ import annotations

import base64
import time
import tracemalloc
from email import message_from_bytes
from email.generator import BytesGenerator
from email.message import EmailMessage
from email.policy import SMTP
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.policy.mime import FLAWS, LIMITS, Limits, Walked, decoded, walk

PLAIN = b"Content-Type: text/plain\r\n\r\nhello\r\n"
# CPU seconds within which each monster must be walked, on a slow machine beside others; all take far less.
PATIENCE = 5.0


def multipart(*parts: bytes, boundary: bytes = b"b", header: bytes = b"", end: bytes = b"--b--\r\n") -> bytes:
    head = header or b'Content-Type: multipart/mixed; boundary="%b"\r\n' % boundary
    return head + b"\r\n" + b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + end


def attached(parameters: bytes, content: bytes = b"x", more: bytes = b"") -> bytes:
    return multipart(PLAIN, b"Content-Disposition: attachment" + parameters + b"\r\n" + more + b"\r\n" + content)


def in_base64(content: bytes) -> bytes:
    return base64.encodebytes(content).replace(b"\n", b"\r\n")


def outline(walked: Walked) -> list[tuple[str, str]]:
    return [(part.path, part.type) for part in walked.parts]


def leaves(walked: Walked) -> list[bytes]:
    return [decoded(part) for part in walked.parts if not part.container]


def test_a_plain_message_is_one_part() -> None:
    walked = walk(b"From: a@a.example\r\nSubject: hi\r\n\r\nhello\r\n")
    assert outline(walked) == [("1", "text/plain")]
    assert leaves(walked) == [b"hello\r\n"]
    assert walked.flaws == () and walked.complete
    part = walked.parts[0]
    assert (part.depth, part.charset, part.disposition, part.name, part.names) == (0, "", "", "", ())


def test_parts_within_parts() -> None:
    inner = multipart(PLAIN, b"Content-Type: TEXT/HTML; charset=UTF-8\r\n\r\n<p>", boundary=b"i", end=b"--i--\r\n")
    forwarded = b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n" + multipart(
        b"\r\nbare", boundary=b"f", end=b"--f--\r\n"
    )
    walked = walk(b"preamble\r\n".join([multipart(inner, forwarded)[:-7], b""]) + b"--b--\r\nepilogue")
    assert outline(walked)[:4] == [
        ("1", "multipart/mixed"), ("1.1", "multipart/mixed"), ("1.1.1", "text/plain"), ("1.1.2", "text/html"),
    ]  # fmt: skip
    assert outline(walked)[4:] == [("1.2", "message/rfc822"), ("1.2.1", "multipart/mixed"), ("1.2.1.1", "text/plain")]
    assert [part.depth for part in walked.parts] == [0, 1, 2, 2, 1, 2, 3]
    assert leaves(walked) == [b"hello\r\n", b"<p>", b"bare"]
    assert walked.parts[3].charset == "utf-8"


def test_a_memoryview_and_lines_ending_in_lf() -> None:
    octets = multipart(PLAIN, PLAIN)
    assert outline(walk(memoryview(octets))) == outline(walk(octets.replace(b"\r\n", b"\n")))
    assert walk(octets.replace(b"\r\n", b"\n")).flaws == ()


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        (b"; filename=a.pdf", ["a.pdf"]),
        (b'; filename="a b;c=\\"d\\".pdf"', ['a b;c="d".pdf', "a b;c="]),
        (b';\r\n\tfilename*=UTF-8\'en\'%e2%82%ac%20rates.txt', ["€ rates.txt"]),
        (b"; filename*0=\"long-\"; filename*1=name.exe", ["long-name.exe"]),
        (b"; filename*0*=iso-8859-1''%e4; filename*1=\"b%20\"; filename*2*=%2eexe", ["äb%20.exe"]),
        (b"; filename*1=b.exe; filename*0=a", ["ab.exe"]),
        (b"; filename=\"=?utf-8?B?YS5leGU=?=\"", ["a.exe"]),
        (b"; filename=\"=?iso-8859-1?Q?=E4.exe?=\"", ["ä.exe"]),
        (b"; filename=a.txt; filename=b.exe", ["a.txt", "b.exe"]),
        (b"; filename=a.txt; filename*=utf-8''b.exe", ["b.exe", "a.txt"]),
        (b"; filename=my file.exe", ["my file.exe", "my"]),
        (b'; filename="a.exe', ["a.exe"]),
        (b'; filename="a".exe', ["a", "a.exe"]),
        (b"; filename(x)=(y)a.exe(z)", ["a.exe"]),
        (b"; FileName = a.exe ;", ["a.exe"]),
        (b"; filename=\xc3\xa4.exe", ["ä.exe"]),
        (b"", []),
        (b"; filename=", []),
    ],
)  # fmt: skip
def test_names_in_every_way_they_are_read(parameters: bytes, names: list[str]) -> None:
    part = walk(attached(parameters)).parts[2]
    assert list(part.names) == names
    assert part.name == (names[0] if names else "")
    assert part.disposition == "attachment"


def test_a_name_of_the_type_and_one_of_the_disposition() -> None:
    part = walk(attached(b"; filename=a.txt", more=b"Content-Type: image/png; name=b.exe\r\n")).parts[2]
    assert part.names == ("a.txt", "b.exe") and "names_disagree" in part.flaws
    assert part.type == "image/png"


def test_a_long_name_keeps_both_of_its_ends() -> None:
    part = walk(attached(b"; filename=" + b"a" * 5000 + b".exe")).parts[2]
    assert part.name.endswith("a.exe") and len(part.name) == 1000 and "long_name" in part.flaws


ENCODED = in_base64(b"Content-Type: text/plain\r\n\r\nMARK within\r\n")
UU = b"begin 644 evil.exe\r\n$34%22P  \r\n`\r\nend\r\n"
AMBIGUOUS = {
    "two_content_types": b"Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\nMARK",
    "two_dispositions": b"Content-Disposition: inline\r\nContent-Disposition: attachment\r\n\r\nMARK",
    "two_transfer_encodings":
        b"Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: base64\r\n\r\nMARK",
    "odd_content_type": b"Content-Type: text\r\n\r\nMARK",
    "bad_transfer_encoding": b"Content-Transfer-Encoding: base64 x\r\n\r\n" + in_base64(b"MARK"),
    "comment": b"Content-Transfer-Encoding: 7bit\r\nContent-Type: text/(x)plain\r\n\r\nMARK",
    "odd_parameter": b"Content-Type: text/plain; name=a b\r\n\r\nMARK",
    "two_parameters": b"Content-Type: text/plain; name=a; name=b\r\n\r\nMARK",
    "bad_continuation": b"Content-Type: text/plain; name*0=a; name*2=b\r\n\r\nMARK",
    "names_disagree": b"Content-Type: text/plain; name=a\r\nContent-Disposition: x; filename=b\r\n\r\nMARK",
    "encoded_name": b"Content-Type: text/plain; name=\"=?utf-8?q?a?=\"\r\n\r\nMARK",
    "odd_header": b"Content-Type : text/plain\r\n\r\nMARK",
    "no_header_end": multipart(b"MARK without any header"),
    "odd_boundary": multipart(b"\r\n--bb\r\nMARK"),
    "no_boundary": multipart(b"\r\nMARK", header=b"Content-Type: multipart/mixed\r\n"),
    "no_final_boundary": multipart(b"\r\nMARK", end=b""),
    "preamble_parts": multipart(
        b"\r\nMARK", header=b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--x\r\n" + PLAIN
    ),
    "epilogue_parts": multipart(PLAIN) + b"--b\r\n\r\nMARK\r\n--b--\r\n",
    "bad_base64": b"Content-Transfer-Encoding: base64\r\n\r\nTU!FS\r\nSw==",
    "bad_quoted_printable": b"Content-Transfer-Encoding: quoted-printable\r\n\r\n=4DARK=x",
    "encoded_message": b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + ENCODED,
    "partial": b"Content-Type: message/partial; number=1; total=2; id=x\r\n\r\nMARK",
    "external_body": b"Content-Type: message/external-body; access-type=URL\r\n\r\nMARK",
    "uuencoded": b"\r\nsee there\r\n" + UU,
    "tnef": b"Content-Type: application/ms-tnef\r\n\r\nMARK",
    "nul": b"\r\nMARK\0",
    "too_large_header": b"Content-Type: text/plain; x=" + b"y" * 20000 + b"\r\n\r\nMARK",
    "too_many_parameters": b"Content-Type: text/plain" + b"; a=b" * 200 + b"\r\n\r\nMARK",
    "long_name": b"Content-Type: text/plain; name=" + b"y" * 2000 + b"\r\n\r\nMARK",
}  # fmt: skip


@pytest.mark.parametrize(("flaw", "octets"), AMBIGUOUS.items())
def test_what_readers_disagree_on_is_marked_and_the_content_found(flaw: str, octets: bytes) -> None:
    walked = walk(octets)
    assert flaw in walked.flaws
    assert any(b"MARK" in leaf for leaf in leaves(walked))
    assert any(flaw in part.flaws for part in walked.parts) or flaw == "nul"


def test_every_flaw_is_listed_and_has_a_case() -> None:
    assert set(AMBIGUOUS) | {"too_deep", "too_many_parts", "too_large"} == set(FLAWS)
    assert all(set(walk(octets).flaws) <= set(FLAWS) for octets in AMBIGUOUS.values())


@pytest.mark.parametrize(
    ("octets", "flaw"),
    [
        (b"Content-Type: multipart/mixed; boundary=a; boundary=b\r\n\r\n--b\r\n\r\nMARK\r\n--b--\r\n", "odd_boundary"),
        (b"Content-Type: multipart/mixed; boundary*0=a; boundary*1=b\r\n\r\n--ab\r\n\r\nMARK\r\n--ab--\r\n",
         "odd_boundary"),
        (b"Content-Type: text/plain\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nMARK\r\n--b--",
         "two_content_types"),
        (b"Content-Type: multipart/mixed; boundary=(x)b\r\n\r\n--b\r\n\r\nMARK\r\n--b--", "comment"),
        (b"Content-Type: multipart/mixed; boundary=a b\r\n\r\n--a b\r\n\r\nMARK\r\n--a b--", "odd_boundary"),
        (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--c\r\n\r\nMARK\r\n--c--", "no_boundary"),
        (b"Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: base64\r\n\r\n"
         + in_base64(b"--b\r\n\r\nMARK\r\n--b--\r\n"), "bad_transfer_encoding"),
        (b"Content-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r--b\r\n", "odd_boundary"),
        (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nMARK\r\n--b--more\r\n", "odd_boundary"),
        (b"Content-Type: application/octet-stream; name=x.eml\r\nContent-Transfer-Encoding: base64\r\n\r\n" + ENCODED,
         ""),
    ],
)  # fmt: skip
def test_parts_are_found_by_whichever_reading_has_any(octets: bytes, flaw: str) -> None:
    walked = walk(octets)
    assert flaw in walked.flaws if flaw else walked.flaws == ()
    if b"MARK" in octets or ENCODED in octets:
        content = next(leaf for leaf in leaves(walked) if b"MARK" in leaf)
        assert content.strip() in (b"MARK", b"MARK within")


@pytest.mark.parametrize(
    "encoded",
    [b"TUFSSw==", b"TUFSSw=\r\n=", b"TUFS\r\nSw==", b"TU FS Sw==", b"TUFS=Sw", b"T\xffUFSSw", b"TUFSSw==TUFS"],
)
def test_base64_is_read_as_the_most_lenient_reader_would(encoded: bytes) -> None:
    part = walk(b"Content-Transfer-Encoding: base64\r\n\r\n" + encoded).parts[0]
    assert decoded(part).startswith(b"MAR")


@pytest.mark.parametrize("encoded", [b"", b"TUFSSw==", b"TUFSSw==\r\n", b"TUFS\r\nTUFS\r\n", b"TUFSSws="])
def test_good_base64_has_no_flaw(encoded: bytes) -> None:
    assert walk(b"Content-Transfer-Encoding: base64\r\n\r\n" + encoded).flaws == ()


@pytest.mark.parametrize("encoded", [b"TUFS=", b"T", b"TUFSS", b"TUFSSw==TUFS", b"TUFS-w==", b"TUFSSw===", b"=", b"Sw=="
                                     b"\r\n-- \r\nlist footer\r\n"])  # fmt: skip
def test_base64_that_is_read_in_two_ways_is_marked(encoded: bytes) -> None:
    assert walk(b"Content-Transfer-Encoding: base64\r\n\r\n" + encoded).flaws == ("bad_base64",)


def test_a_file_in_text_is_a_part() -> None:
    part = walk(b"\r\nsee there\r\n" + UU).parts[1]
    assert (part.path, part.name, decoded(part)) == ("1.1", "evil.exe", b"MARK")


def test_prose_that_begins_is_no_file() -> None:
    assert walk(b"\r\nbegin 644 words with this\r\nand go on\r\n").flaws == ()


def nested(depth: int) -> bytes:
    opened = [b'Content-Type: multipart/mixed; boundary="%d."\r\n\r\n--%d.\r\n' % (n, n) for n in range(depth)]
    return b"".join(opened) + PLAIN


def prefixes(depth: int) -> bytes:
    opened = [
        b"Content-Type: multipart/mixed; boundary=" + b"a" * n + b"\r\n\r\n--" + b"a" * n for n in range(1, depth)
    ]
    return b"\r\n".join(opened) + b"\r\n" + b"--a\r\n" * 100_000


MONSTERS = {
    "depth": nested(10_000),
    "messages within messages": b"Content-Type: message/rfc822\r\n\r\n" * 1000 + PLAIN,
    "100,000 parts": multipart(*[b"\r\nx"] * 100_000),
    "1,000,000 delimiters": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n" * 1_000_000,
    "ends without beginnings": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b--\r\n" * 500_000,
    "what looks like delimiters": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + b"--bb\r\n" * 500_000,
    "boundaries that begin each other": prefixes(60),
    "a header of 1 MB": b"X: " + b"y" * 1_000_000 + b"\r\n" + PLAIN,
    "100,000 fields": b"X: y\r\n" * 100_000 + PLAIN,
    "100,000 Content-Types": b"Content-Type: text/html\r\n" * 10_000 + PLAIN,
    "a fold of 1 MB": b"Content-Type: text/plain" + b";\r\n x" * 200_000 + b"\r\n\r\n",
    "10,000 parameters": b"Content-Type: text/plain" + b"; a=b" * 10_000 + b"\r\n\r\n",
    "10,000 pieces": b"Content-Type: text/plain" + b"".join(b"; name*%d=x" % n for n in range(10_000)) + b"\r\n\r\n",
    "parentheses": b"Content-Type: " + b"(" * 1_000_000 + b"\r\n\r\n",
    "parentheses and backslashes": b"Content-Type: " + b"(\\" * 500_000 + b"\r\n\r\n",
    "quotes": b"Content-Type: text/plain; name=" + b'"' * 1_000_000 + b"\r\n\r\n",
    "escaped quotes": b"Content-Type: text/plain; name=" + b'"\\' * 500_000 + b"\r\n\r\n",
    "semicolons": b"Content-Type: text/plain" + b";" * 1_000_000 + b"\r\n\r\n",
    "encoded words": b"Content-Type: text/plain; name=\"" + b"=?utf-8?q?" * 100_000 + b"\r\n\r\n",
    "lines without colons": b"x\r\n" * 300_000,
    "blanks": b" " * 1_000_000 + b"\r\n" + b" \r\n" * 300_000,
    "carriage returns": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"\r" * 3_000_000,
    "dashes": b"Content-Type: multipart/mixed\r\n\r\n" + b"-" * 1_000_000 + b"\n--" * 300_000,
    "padding": b"Content-Transfer-Encoding: base64\r\n\r\n" + b"=" * 3_000_000,
    "padding in between": b"Content-Transfer-Encoding: base64\r\n\r\n" + b"QQ==" * 700_000,
    "equals signs": b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"= " * 1_000_000,
    "100,000 files in text": b"\r\n" + UU * 30_000,
    "files without ends": b"\r\n" + b"begin 644 a\r\n#0V%T\r\n" * 100_000,
    "lines of uuencode": b"Content-Transfer-Encoding: uuencode\r\n\r\n" + b"#0V%T\r\n" * 200_000,
    "deep and long": nested(39) + b"\n" * 3_000_000,
    "octets of 0": b"\0" * 3_000_000,
}  # fmt: skip


@pytest.mark.parametrize("octets", MONSTERS.values(), ids=list(MONSTERS))
def test_monsters_are_walked_in_bounds(octets: bytes) -> None:
    before = time.process_time()
    walked = walk(octets)
    sizes = [len(decoded(part)) for part in walked.parts if not part.container]
    spent = time.process_time() - before
    assert spent < PATIENCE
    assert len(walked.parts) <= LIMITS.parts and max(part.depth for part in walked.parts) <= LIMITS.depth
    assert all(size <= len(octets) for size in sizes)


def test_monsters_take_no_memory_of_their_own() -> None:
    octets = MONSTERS["1,000,000 delimiters"][:1_000_000]
    tracemalloc.start()
    try:
        walk(octets)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize(
    ("octets", "flaw"),
    [(MONSTERS["depth"], "too_deep"), (MONSTERS["deep and long"], "too_deep"),
     (MONSTERS["messages within messages"], "too_deep"),
     (MONSTERS["100,000 parts"], "too_many_parts"), (MONSTERS["1,000,000 delimiters"], "too_many_parts"),
     (MONSTERS["what looks like delimiters"], "too_many_parts"), (MONSTERS["100,000 files in text"], "too_many_parts")],
)  # fmt: skip
def test_what_is_left_out_is_said(octets: bytes, flaw: str) -> None:
    walked = walk(octets)
    assert flaw in walked.flaws and not walked.complete


@pytest.mark.parametrize("place", [0, 2**20 - 20, 2**20 - 1, 2**20, 2**20 + 7, 2_500_000])
def test_what_is_looked_for_in_pieces_is_found_at_their_ends(place: int) -> None:
    """Pieces are of 1 MB, and end where a line does."""
    before = (b"x" * 60 + b"\n") * (place // 61) + b"y" * (place % 61)
    encoded = b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + before
    assert walk(encoded + b"=\r\n" * 1000).flaws == ()
    assert walk(encoded + b"=x\r\n" + before).flaws == ("bad_quoted_printable",)
    assert len(walk(b"\r\n" + before + b"\n" + UU + before).parts) == 2
    text = walk(multipart(PLAIN) + before + b"\n--other\r\nContent-Type: text/plain\r\n\r\n" + before)
    assert text.flaws == ("epilogue_parts",)


def test_octets_are_limited_and_those_decoded_of_messages_within_too() -> None:
    walked = walk(PLAIN, Limits(octets=30))
    assert "too_large" in walked.flaws and not walked.complete and leaves(walked) == [b"he"]
    within = multipart(*[AMBIGUOUS["encoded_message"]] * 5)
    walked = walk(within, Limits(octets=len(within)))
    assert walked.complete
    doubled = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + in_base64(within)
    walked = walk(doubled, Limits(octets=len(doubled)))
    assert "too_large" in walked.flaws and not walked.complete


FRAGMENTS = [
    *(b"Content-Type: multipart/mixed; boundary=", b"Content-Type: message/rfc822", b"Content-Transfer-Encoding: "),
    *(b"Content-Disposition: attachment; filename", b"base64", b"quoted-printable", b"*0*=utf-8''%41", b"*1="),
    *(b"--", b"--a", b"--aa", b"--a--", b"a", b"aa", b'"', b"\\", b"(", b")", b";", b"=", b"\r\n", b"\r\n\r\n", b"\n"),
    *(b"=?q?=41?=", b"\r", b" ", b"\t", b"\0", b"\xff", b"begin 644 x\r\n", b"end\r\n", b"QUJD", b"=41", b"From "),
    b":",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=6)), max_size=60).map(b"".join))
def test_nothing_makes_it_raise(octets: bytes) -> None:
    walked = walk(octets)
    assert set(walked.flaws) <= set(FLAWS)
    assert walked.complete and walked.parts
    for part in walked.parts:
        assert 0 <= part.start <= part.end <= len(part.source)
        assert len(decoded(part)) <= part.end - part.start


TEXT = st.text(st.characters(codec="ascii", min_codepoint=32), max_size=80)
LEAF = st.tuples(st.sampled_from(["plain", "html"]), st.sampled_from(["7bit", "base64", "quoted-printable"]), TEXT)
TREE = st.recursive(LEAF, lambda children: st.lists(children, min_size=1, max_size=4), max_leaves=8)


def built(tree: object) -> EmailMessage:
    made = EmailMessage(policy=SMTP)
    if isinstance(tree, tuple):
        kind, encoding, text = tree
        made.set_content(text, subtype=kind, cte=encoding)
    else:
        made["Content-Type"] = "multipart/mixed"
        for child in tree:  # type: ignore[attr-defined]
            made.attach(built(child))
    return made


@settings(max_examples=40, deadline=None)
@given(TREE)
def test_plain_cases_are_read_as_the_standard_library_reads_them(tree: object) -> None:
    written = BytesIO()
    BytesGenerator(written, policy=SMTP).flatten(built(tree))
    octets = written.getvalue()
    parts = message_from_bytes(octets, policy=SMTP).walk()
    theirs = [(part.get_content_type(), part.get_payload(decode=True)) for part in parts if not part.is_multipart()]
    walked = walk(octets)
    ours = [(part.type, decoded(part)) for part in walked.parts if not part.container]
    assert ours == theirs
    assert walked.flaws == ()
