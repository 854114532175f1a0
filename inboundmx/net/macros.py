"""What the macros of a document would do, by oletools in a process of its own.

Knows how that process is run, and how long at most. Does not know what macros are, nor what they are worth.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

from inboundmx.ports import Unavailable

CHILD = Path(__file__).with_name("macro_child.py")
# Octets of an answer that are read into words.
_LARGEST_ANSWER = 64 * 1024


class MacroProcess:
    """``ports.MacroReader``."""

    def read(self, octets: bytes, seconds: float) -> tuple[str, ...]:
        if seconds <= 0:
            raise Unavailable("no time to read macros")
        # Isolated: neither the environment nor the folder it starts in says what it imports.
        command = [sys.executable, "-I", str(CHILD), str(math.ceil(seconds))]
        try:
            done = subprocess.run(
                command,
                input=octets,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=seconds,
                cwd="/",
                env={},
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable("macros were not read in time") from None
        except OSError as error:
            raise Unavailable(f"oletools cannot be run: {error.strerror}") from None
        try:
            words = json.loads(done.stdout[:_LARGEST_ANSWER])
        except ValueError:
            raise Unavailable("oletools could not read the macros") from None
        return tuple(str(word) for word in words)
