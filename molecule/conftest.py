"""What every story starts from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "shared"))

from lab import Lab


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The story's lab."""
    return Lab()
