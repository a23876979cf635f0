from __future__ import annotations

import ssl

import pytest

from tests.unit.endpoint_failover.servers import Authority
from tests.unit.endpoint_failover.sites import NAME, SECOND


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def certified(authority: Authority) -> ssl.SSLContext:
    """What a server needs that is well: a certificate for both generic names, and for the DynDNS server."""
    return authority.context(NAME, SECOND, "dyndns.test")
