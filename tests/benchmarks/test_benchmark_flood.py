"""The flood of the benchmarks: what is refused is counted, what is not has failed."""

from __future__ import annotations

import socket
import threading

import pytest

from benchmarks.flood import FLOODER, flood


@pytest.mark.parametrize(("banner", "counted"), [(b"554 5.7.1 no\r\n", "refused"), (b"220 hello\r\n", "failed")])
def test_a_refusal_is_a_554_before_anything_else(banner: bytes, counted: str) -> None:
    came: list[str] = []
    with socket.create_server(("127.0.0.1", 0), backlog=200) as server:

        def answer() -> None:
            while True:
                try:
                    connection, (source, _) = server.accept()
                except OSError:
                    return
                came.append(source)
                connection.sendall(banner)
                connection.close()

        threading.Thread(target=answer, daemon=True).start()
        result = flood(server.getsockname()[1], 0.05)
        server.shutdown(socket.SHUT_RDWR)
    assert result[counted] == len(came) > 0
    assert result["refused"] + result["failed"] == result[counted]
    assert set(came) == {FLOODER}
