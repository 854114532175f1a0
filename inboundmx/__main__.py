"""``python -m inboundmx`` and the ``inboundmx`` console script."""

import sys

from inboundmx.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
