"""Lists of recipients as text: what is an address, what is a whole domain, and what is no list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboundmx.directory.listed import listed
from inboundmx.model.address import Address
from inboundmx.ports import Unavailable


@pytest.mark.parametrize(
    ("octets", "addresses", "domains"),
    [
        (b"ann@a.test\n", {"ann@a.test"}, set()),
        (b"# all of us\r\n\r\n  Ann@A.test  \r\n; and\r\n@b.test\r\n*@C.test", {"ann@a.test"}, {"b.test", "c.test"}),
        (b"\xef\xbb\xbfann@a.test", {"ann@a.test"}, set()),
        (b'"odd name"@a.test\n', {'"odd name"@a.test'}, set()),
        (b'["ann@a.test", "@b.test", ""]', {"ann@a.test"}, {"b.test"}),
        ("müller@a.test".encode(), {"müller@a.test"}, set()),
    ],
)
def test_a_list(octets, addresses, domains):
    assert listed(octets) == (addresses, domains)


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"", "holds no address"),
        (b"# nobody yet\n\n", "holds no address"),
        (b"[]", "holds no address"),
        (b"ann@a.test\nbob\n", "line 2 is no address"),
        (b"ann@\n", "line 1 is no address"),
        (b"ann@a.test\x00\n", "line 1 is no address"),
        (b"a" * 400 + b"@a.test", "line 1 is no address"),
        (b"<html><body>404</body></html>", "line 1 is no address"),
        (b'["ann@a.test", 7]', "is no JSON list of addresses"),
        (b'{"ann@a.test": 1}', "is no JSON list of addresses"),
        (b"[" * 100_000, "is no JSON list of addresses"),
        (b"\xff\xfe", "is not UTF-8 at octet 0"),
    ],
)
def test_what_is_no_list(octets, said):
    with pytest.raises(Unavailable) as caught:
        listed(octets)
    assert caught.value.reason == said


def test_capitals_do_not_matter():
    found = listed(b"Ann@a.test\n@b.test\n")
    assert found.holds(Address("ANN", "a.test"))
    assert found.holds(Address("anybody", "b.test"))
    assert not found.holds(Address("bob", "a.test"))
    assert not found.holds(Address("ann", "x.b.test"))


@given(st.binary(max_size=200))
def test_any_octets_are_a_list_or_refused(octets):
    try:
        found = listed(octets)
    except Unavailable:
        return
    assert found.addresses or found.domains
