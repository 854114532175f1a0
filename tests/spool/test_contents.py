"""Reading bodies for those who look into them."""

from __future__ import annotations

from pathlib import Path

import pytest

from inboundmx.model.message import SMALL_BODY
from inboundmx.ports import Unavailable
from inboundmx.spool.bodies import BodyContents, SpoolBodies


@pytest.mark.parametrize("size", [0, 10, SMALL_BODY, SMALL_BODY + 1, 3 * SMALL_BODY])
def test_whole_and_in_parts(tmp_path: Path, size: int) -> None:
    octets = bytes(n % 251 for n in range(size))
    draft = SpoolBodies(str(tmp_path / "spool/0"), str(tmp_path)).draft("0123456789")
    draft.write(octets)
    body = draft.finish()
    contents = BodyContents(str(tmp_path))
    assert contents.whole(body) == octets
    assert b"".join(contents.part(body, at, 100_000) for at in range(0, size, 100_000)) == octets
    assert contents.part(body, size, 10) == b""


def test_a_body_that_is_gone_or_cut_short(tmp_path: Path) -> None:
    draft = SpoolBodies(str(tmp_path / "spool/0"), str(tmp_path)).draft("0123456789")
    draft.write(b"x" * (SMALL_BODY + 10))
    body = draft.finish()
    contents = BodyContents(str(tmp_path))
    assert body.path is not None
    (tmp_path / body.path).write_bytes(b"short")
    with pytest.raises(Unavailable, match="cut short"):
        contents.whole(body)
    assert contents.part(body, SMALL_BODY, 10) == b""
    draft.discard()
    with pytest.raises(Unavailable):
        contents.whole(body)
    with pytest.raises(Unavailable):
        contents.part(body, 0, 10)
