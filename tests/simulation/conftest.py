import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def settings(tmp_path_factory):
    from simulate import settings_in

    return settings_in(tmp_path_factory.mktemp("simulation"))
