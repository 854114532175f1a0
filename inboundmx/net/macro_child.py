"""A process that reads one document on stdin with oletools and says on stdout what its macros would do.

Knows oletools alone: nothing of the gateway is imported, so that it starts as fast as that library lets it, and what a
document does to it happens to nobody else. Run by path, with the seconds of CPU it may take as its argument.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import resource
import sys
import warnings

# Octets of memory it may have: documents unpack.
MEMORY = 1024 * 1024 * 1024
# What is told of one document.
WORDS = 10


def main() -> None:
    seconds = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    # It has no business on the disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    octets = sys.stdin.buffer.read()
    with contextlib.redirect_stdout(io.StringIO()):
        from oletools.olevba import VBA_Parser

        parser = VBA_Parser("document", data=octets)
        told = parser.analyze_macros() if parser.detect_vba_macros() or parser.detect_xlm_macros() else []
    words = [keyword for kind, keyword, _ in told or () if kind in ("AutoExec", "Suspicious")]
    sys.stdout.write(json.dumps(words[:WORDS]))


if __name__ == "__main__":
    main()
