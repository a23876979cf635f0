"""What the tests of the keys start from."""

from __future__ import annotations

import pytest
from checkin import Checkin
from lab import NODES, Lab


@pytest.fixture(scope="session")
def jwt(lab: Lab) -> str:
    """Alice's access token. It lasts for an hour."""
    return Checkin(lab).token("alice")


@pytest.fixture(scope="session", autouse=True)
def service(lab: Lab, jwt: str) -> None:
    """The service, configured, its first root token revoked."""
    if lab.bundle()["root_token"]["revoked_at"] is None:
        lab.play(*NODES, jwt=jwt)
