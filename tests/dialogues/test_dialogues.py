"""Every ``*.smtp`` file beside this one is a conversation with an in-memory server.

``C:`` a line the client sends; lines that follow each other go out in one piece. ``C-`` the same without its CRLF.
In both, ``\\r`` ``\\n`` ``\\0`` ``\\xNN`` stand for octets. ``S:`` a line the server says, ``…`` for anything;
together they are all that it has said since. ``closed``: the server has closed by now. Before them or between:
``set KEY VALUE`` (a key of [smtp]), ``tls`` (a certificate is configured), ``answer QUESTION CODE ENHANCED TEXT``,
``each CODE ENHANCED TEXT`` (to the final dot, for one recipient), ``last CODE ENHANCED TEXT`` (and for the message),
``fail QUESTION``, ``slow QUESTION`` (answered only by ``fire``), ``handshake`` (TLS has begun), ``content TEXT`` (the
message that was taken last), ``asked WORDS`` (the questions since the last time), ``wait SECONDS``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "smtp"))

from conversation_fake import Client, FakeConversation, Server  # noqa: E402

from inboundmx.model.reply import Replies, Reply  # noqa: E402

FILES = sorted(HERE.glob("*.smtp"))


def octets(text: str) -> bytes:
    return re.sub(
        rb"\\(x[0-9a-f]{2}|[rn0])",
        lambda found: bytes.fromhex(found[1][1:].decode()) if found[1][:1] == b"x" else
        {b"r": b"\r", b"n": b"\n", b"0": b"\0"}[found[1]],
        text.encode(),
    )  # fmt: skip


class Stage:
    def __init__(self) -> None:
        self.conversation = FakeConversation()
        self.smtp: dict[str, int] = {}
        self.tls: object = None
        self.server: Server | None = None
        self.client: Client | None = None
        self.sending = b""
        self.asked = 0
        self.each: list[Reply] = []

    def connected(self) -> Client:
        if self.client is None:
            self.server = Server(self.conversation, tls_options=self.tls, **self.smtp)
            self.client = self.server.connect()
        return self.client

    def send(self) -> None:
        if self.sending:
            self.connected().protocol.dataReceived(self.sending)
            self.sending = b""

    def heard(self) -> list[str]:
        self.send()
        return self.connected().heard().decode("ascii").split("\r\n")[:-1]

    def direct(self, word: str, rest: str) -> None:
        self.send()
        if word == "set":
            key, value = rest.split()
            self.smtp[key] = int(value)
        elif word == "tls":
            self.tls = object()
        elif word == "answer":
            question, code, enhanced, text = rest.split(" ", 3)
            self.conversation.answers[question] = Reply(int(code), enhanced.strip("-"), text)
        elif word == "each":
            code, enhanced, text = rest.split(" ", 2)
            self.each.append(Reply(int(code), enhanced, text))
        elif word == "last":
            code, enhanced, text = rest.split(" ", 2)
            self.conversation.answers["content"] = Replies(tuple(self.each), Reply(int(code), enhanced, text))
        elif word == "fail":
            self.conversation.answers[rest] = RuntimeError("a fault of ours")
        elif word == "slow":
            self.conversation.slow |= {rest}
        elif word == "fire":
            self.conversation.fire()
        elif word == "handshake":
            assert self.connected().wire.started_tls == [self.tls]
            self.connected().protocol.handshakeCompleted()
        elif word == "content":
            assert self.conversation.contents.pop() == octets(rest)
        elif word == "asked":
            assert " ".join(str(question[0]) for question in self.conversation.asked[self.asked :]) == rest
            self.asked = len(self.conversation.asked)
        elif word == "wait":
            self.connected()
            assert self.server is not None
            self.server.clock.advance(float(rest))
        elif word == "closed":
            assert self.connected().closed
        else:
            raise AssertionError(f"no such word: {word}")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_dialogue(file: Path) -> None:
    stage = Stage()
    expected: list[str] = []

    def compare(where: int) -> None:
        heard = stage.heard()
        shown = f"{file.name}:{where}: expected {expected}, heard {heard}"
        assert len(heard) == len(expected), shown
        for wanted, said in zip(expected, heard, strict=True):
            assert re.fullmatch(".*".join(map(re.escape, wanted.split("…"))), said), shown
        expected.clear()

    lines = file.read_text().split("\n")
    for number, line in enumerate(lines, 1):
        kind, rest = line[:2], line[3:]
        if not line or line.startswith("#"):
            continue
        if kind == "S:":
            expected.append(rest)
            continue
        if expected:
            compare(number)
        if kind == "C:":
            stage.sending += octets(rest) + b"\r\n"
        elif kind == "C-":
            stage.sending += octets(rest)
        else:
            word, _, rest = line.partition(" ")
            stage.direct(word, rest)
    compare(len(lines))


def test_there_are_dialogues() -> None:
    assert len(FILES) >= 12
