"""Fields that are joined are scanned as they were, and what is scanned joins to what it was."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from inboundmx.model.message import Body, Message

names = st.text("abXY09-_.!#$%&'*+/=?^`{|}~", min_size=1, max_size=12)
# What may stand in a line once SMTP has taken it: any octets but CR, LF and NUL.
texts = st.binary(max_size=20).map(lambda octets: octets.translate(None, b"\r\n\0"))
folds = st.lists(st.tuples(st.sampled_from([b" ", b"\t"]), texts), max_size=3)
fields = st.tuples(names, st.sampled_from([b"", b" ", b"\t "]), texts, folds)
bodies = st.sampled_from(
    [b"", b"\r\n", b"\r\nbody: not a field\r\n", b"no field\r\nname: value\r\n\r\n", b": \r\n\r\n"]
)


def written(name: str, blanks: bytes, text: bytes, folded: list[tuple[bytes, bytes]]) -> tuple[str, bytes, bytes]:
    value = text + b"".join(b"\r\n" + blank + more for blank, more in folded)
    return name.lower(), value, name.encode() + blanks + b":" + value + b"\r\n"


@given(st.lists(fields.map(lambda parts: written(*parts)), max_size=6), bodies)
@settings(max_examples=120)
def test_what_is_joined_is_scanned(made: list[tuple[str, bytes, bytes]], rest: bytes) -> None:
    header = b"".join(whole for _, _, whole in made)
    content = header + rest
    message = Message("id", Body(len(content), content, None, b""))
    assert [(field.name, field.value) for field in message.fields] == [(name, value) for name, value, _ in made]
    assert b"".join(content[field.start : field.end] for field in message.fields) == header
    if rest.startswith(b"\r\n"):
        assert message.header_end == len(header)


lines = st.lists(
    st.sampled_from([b"a: b", b"Long-Name : value", b" folded", b"\tfolded", b"no field", b"", b":", b"\xe9: x", b"x:"])
)


@given(lines)
@settings(max_examples=120)
def test_scanning_stops_where_a_line_is_no_field(said: list[bytes]) -> None:
    content = b"".join(line + b"\r\n" for line in said)
    message = Message("id", Body(len(content), content, None, b""))
    plain: list[bytes] = []
    for line in said:
        if line[:1] in (b" ", b"\t") and plain:
            plain[-1] += b"\r\n" + line
        elif b":" in line and line.partition(b":")[0].strip(b" ").isascii() and line[:1] not in (b" ", b"\t", b":"):
            plain.append(line)
        else:
            break
    found = [content[field.start : field.end - 2] for field in message.fields]
    assert found == plain
