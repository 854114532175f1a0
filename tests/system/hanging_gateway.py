"""The product with a fault planted in it: mail from poison@ hangs whoever delivers it, for good.

Started with the path of the INI.
"""

from __future__ import annotations

import sys
from typing import Any

from inboundmx.app import process
from inboundmx.delivery.courier import Courier

usual = Courier.attempt


async def attempt_or_hang(self: Courier, entry: Any, *others: Any) -> Any:
    while entry.sender is not None and entry.sender.local == "poison":
        pass
    return await usual(self, entry, *others)


if __name__ == "__main__":
    Courier.attempt = attempt_or_hang  # type: ignore[method-assign]
    sys.exit(process.run(sys.argv[1]))
