import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "system")]


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.name == "test_crash_short.py":
            item.add_marker(pytest.mark.system)
