"""The product with little room to remember strangers. Started with the path of the INI."""

from __future__ import annotations

import sys

from inboundmx.app import process
from inboundmx.storage import state, state_file

if __name__ == "__main__":
    # Facts on the disk, and of those how many are kept in memory as well.
    state_file.ROWS = 300
    state.REMEMBERED = 100
    sys.exit(process.run(sys.argv[1]))
