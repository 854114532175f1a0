"""The log's writer: a rotated file is let go of."""

from __future__ import annotations

import os

from inboundmx.app.maillog import LineWriter


def test_a_rotated_log_is_closed_and_the_next_lines_go_to_the_new_file(tmp_path):
    path = tmp_path / "mail.log"
    opened = []

    def open_target():
        opened.append(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
        return opened[-1]

    writer = LineWriter(open_target)
    path.rename(tmp_path / "mail.log.1")
    writer.reopen()
    writer.write(b"after\n")
    writer.close()
    assert path.read_bytes() == b"after\n"
    # Whatever has the old descriptor's number by now, it is not the rotated file any more.
    assert not _is_open(opened[0], tmp_path / "mail.log.1")
    os.close(opened[1])


def _is_open(descriptor, path):
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
