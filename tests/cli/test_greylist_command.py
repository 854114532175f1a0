"""``greylist list``, ``release`` and ``forget``: the same on a running gateway and on the file of a stopped one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stopped_gateway import NOW, StoppedGateway

from inboundmx.cli.main import main
from inboundmx.ports import Fact

WAITING = Fact((NOW - 310,), NOW - 310, NOW + 21_000)
KNOWN = Fact((NOW - 90_000, NOW - 86_000), NOW - 86_000, NOW + 3_000_000)
FACTS = {
    "192.0.2.0/24\tann@sender.example\tbob@a.test": WAITING,
    "198.51.100.0/24\tx'||(select 1)||'@odd.test\tbob@a.test": WAITING,
    "2001:db8::/64\t100%@sender.example\tzoe@a.test": KNOWN,
    "203.0.113.0/24\told@sender.example\tbob@a.test": Fact((1.0,), 1.0, 2.0),
}


@pytest.fixture(params=["stopped", "running"])
def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoppedGateway]:
    made = StoppedGateway(tmp_path)
    made.remember(FACTS)
    with made.running() if request.param == "running" else contextlib.nullcontext():
        yield made


@pytest.fixture
def tell(gateway: StoppedGateway, capsys: pytest.CaptureFixture[str]) -> Any:
    def told(*words: str) -> str:
        assert main(["--config", str(gateway.config), "greylist", *words]) == 0
        return capsys.readouterr().out

    return told


def senders(tell: Any, *words: str) -> set[str]:
    return {row["sender"] for row in json.loads(tell("list", "--json", *words))}


ANN, ODD, FULL = "ann@sender.example", "x'||(select 1)||'@odd.test", "100%@sender.example"


def test_list_and_forget(tell: Any) -> None:
    rows = json.loads(tell("list", "--json"))
    assert [row["state"] for row in rows] == ["waiting", "waiting", "known"]
    assert rows[0] == {
        "network": "192.0.2.0/24", "domain": None, "sender": ANN, "recipient": "bob@a.test", "state": "waiting",
        "deliveries": None,
        "first_seen_at": NOW - 310, "passed_at": None, "passes_at": NOW - 310 + 900, "expires_at": NOW + 21_000,
    }  # fmt: skip
    assert rows[2]["passed_at"] == NOW - 86_000 and rows[2]["passes_at"] is None

    lines = tell("list").splitlines()
    assert lines[0].split() == ["STATE", "FIRST", "SEEN", "PASSES", "FORGOTTEN", "CLIENT", "SENDER", "RECIPIENT"]
    assert lines[1].split()[0] == "waiting" and ANN in lines[1]
    assert lines[-1] == "3 shown: 1 known, 2 waiting"
    assert tell("list", "--limit", "2").endswith("2 shown: 2 waiting\nthe newest 2; --limit shows more\n")

    assert senders(tell, "%") == {FULL}
    assert senders(tell, "'||") == {ODD}
    assert senders(tell, "ANN@SENDER") == {ANN}
    assert senders(tell, "192.0.2.0/24") == {ANN}
    assert tell("list", "nobody@nowhere") == "nothing\n"

    assert tell("forget", "--dry-run", "%").endswith("dry run: nothing was forgotten\n")
    assert senders(tell) == {ANN, ODD, FULL}
    assert tell("forget", "%") == "1 forgotten\n"
    assert senders(tell) == {ANN, ODD}
    assert json.loads(tell("forget", "--json", "nobody@nowhere")) == [{"forgotten": 0}]
    assert tell("forget", "--all") == "2 forgotten\n"
    assert tell("list") == "nothing\n"


def test_one_is_let_through(gateway: StoppedGateway, tell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert tell("release", "--dry-run", "ann@").splitlines()[1:] == [
        tell("list", "ann@").splitlines()[1], "1 shown: 1 waiting", "dry run: nothing was let through",
    ]  # fmt: skip
    lines = tell("release", "ann@").splitlines()
    assert lines[1].split()[0] == "released" and lines[-1] == "1 let through with the next try"
    assert senders(tell, "--state", "released") == {ANN}
    assert senders(tell, "--state", "waiting") == {ODD}
    assert [row["state"] for row in json.loads(tell("release", "--json", "198.51.100.7"))] == ["released"]
    assert main(["--config", str(gateway.config), "greylist", "release", "nobody@nowhere"]) == 1
    assert capsys.readouterr().out == "nothing waits that holds nobody@nowhere\n"


def test_one_is_let_through_by_what_its_sender_was_told(
    gateway: StoppedGateway, tell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    id, other = "1n4ewf8jsabcdef", "1n4ewf8jtabcdef"
    visit = {"ip": "192.0.2.9", "sender": ANN, "recipient": "bob@a.test", "verb": "rcpt"}
    with gateway.ledger() as add:
        add(NOW, id, "refused", json.dumps(visit | {"checks": [["grey", "new", "defer", "x"]]}))
        add(NOW, id, "refused", json.dumps(visit | {"recipient": "zoe@a.test", "checks": [["grey", "early", 0, ""]]}))
        add(NOW, other, "refused", json.dumps(visit | {"checks": [["spam", "listed", 5, ""]]}))
    rows = json.loads(tell("release", "--json", id.upper()))
    assert [(row["sender"], row["recipient"], row["state"]) for row in rows] == [
        (ANN, "bob@a.test", "released"), (ANN, "zoe@a.test", "released"),
    ]  # fmt: skip
    for unknown, why in ((other, "was not put off by greylisting"), ("1n4ewf8jzabcdef", "no such id was given")):
        assert main(["--config", str(gateway.config), "greylist", "release", unknown]) == 1
        assert why in capsys.readouterr().err


def test_clients_that_need_not_wait_are_shown(gateway: StoppedGateway, tell: Any) -> None:
    names = ("192.0.2.0/24 dkim:b.example", "spf:c.example")
    gateway.remember(dict.fromkeys(names, Fact((5.0, NOW), NOW, NOW + 1000)), "greylist-good")
    gateway.remember({"eve@far.example\t*@a.test": Fact((NOW,), NOW, NOW + 1000)}, "greylist-written")
    text = tell("list")
    assert "b.example (DKIM) in 192.0.2.0/24" in text and "c.example (SPF)" in text and "*@a.test" in text
    assert text.endswith("6 shown: 2 auto-allowed, 1 known, 2 waiting, 1 written-to\n")


@pytest.mark.parametrize("words", [("forget",), ("forget", "--all", "x"), ("list", "--limit", "0")])
def test_wrong_questions(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    gateway = StoppedGateway(tmp_path)
    gateway.remember(FACTS)
    assert main(["--config", str(gateway.config), "greylist", *words]) == 2
    said = capsys.readouterr().err
    assert "needs a text" in said or "limit must be" in said
    assert main(["--config", str(gateway.config), "greylist", "list", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3


def test_forgetting_is_on_record(tmp_path: Path) -> None:
    gateway = StoppedGateway(tmp_path)
    gateway.remember(FACTS)
    assert main(["--config", str(gateway.config), "greylist", "forget", "ann@"]) == 0
    (line,) = [json.loads(line) for line in gateway.log.read_text().splitlines() if "greylist_forgotten" in line]
    assert (line["matching"], line["count"]) == ("ann@", 1) and line["asked_by"]


def test_a_store_that_cannot_be_read_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gateway = StoppedGateway(tmp_path)
    (gateway.data / "state.sqlite").mkdir()
    assert main(["--config", str(gateway.config), "greylist", "list"]) == 1
    assert "not done: the state store cannot be used" in capsys.readouterr().err
