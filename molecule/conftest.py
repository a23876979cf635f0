"""What every story starts from."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "shared"))

from lab import Lab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what CI has no time for, and `make test-full` runs."""
    if not os.environ.get("LONG"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="LONG=1 runs it"))


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The story's lab."""
    return Lab()
