"""A gateway of ours in front of the real program: whom it brings is judged, by what it stamped alone."""

from __future__ import annotations

import json
from pathlib import Path

from programs import Stage, domain, letter, post

LISTS = """
[lists]
bypass_gateways = 127.0.0.7 203.0.113.0/29
blacklist = 198.51.100.66 127.0.0.7
"""
BAD = b"Received: from x.example (x.example [198.51.100.66]) by gw.example (Postfix) with ESMTP id 1;\r\n\tdate\r\n"
INNER = b"Received: from gw2.example (gw2.example [203.0.113.2]) by gw.example (Postfix) with ESMTP id 2;\r\n\tdate\r\n"


def test_the_client_behind_a_gateway_is_refused_and_explained(play: Stage, tmp_path: Path) -> None:
    primary = play.recording()
    gateway = play.gateway(domain(primary.port) + LISTS)
    content = INNER + BAD + letter("through a gateway")

    refused = post(gateway.port, content, source="127.0.0.7")
    assert str(refused).startswith("554 5.7.1 the address that this mail came from is on the blacklist here ")
    story = gateway.command("explain", refused.id)
    assert "came from    198.51.100.66" in story
    assert "at 127.0.0.7 from 203.0.113.2 (helo gw2.example): a gateway as well, believed" in story
    assert "at 203.0.113.2 from 198.51.100.66 (helo x.example): no gateway: the client that is judged" in story
    # The same fields of anybody else mean nothing.
    assert post(gateway.port, content).code == 250
    assert post(gateway.port, letter("of the gateway itself"), source="127.0.0.7").code == 250
    assert primary.count() == 2

    file = tmp_path / "letter.eml"
    file.write_bytes(content)
    told = json.loads(gateway.command("walk", str(file), "--from", "127.0.0.7", "--json"))
    assert (told["address"], told["helo"], told["blacklist"]) == ("198.51.100.66", "x.example", ["198.51.100.66"])
