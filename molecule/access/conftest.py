"""What the tests of who may do what start from."""

from __future__ import annotations

import pytest
from checkin import Checkin
from lab import NODES, Lab
from personas import Personas


@pytest.fixture(scope="session")
def personas(lab: Lab) -> Personas:
    """Everyone, with their tokens, on a service that is configured."""
    if lab.bundle()["root_token"]["revoked_at"] is None:
        lab.play(*NODES, jwt=Checkin(lab).token("alice"))
    return Personas(lab)
