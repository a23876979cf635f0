"""What the tests of who may do what start from."""

from __future__ import annotations

import pytest
from lab import Lab
from personas import Personas


@pytest.fixture(scope="session")
def personas(lab: Lab) -> Personas:
    """Everyone, with their tokens."""
    return Personas(lab)
