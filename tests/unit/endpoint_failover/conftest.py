from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.unit.endpoint_failover import servers
from tests.unit.endpoint_failover.servers import Authority, TcpServer
from tests.unit.endpoint_failover.sites import NAME, SECOND, SITES, Sites, auth, settings_of


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def certified(authority: Authority) -> ssl.SSLContext:
    """What a server needs that is well: a certificate for both generic names, and for the DynDNS server."""
    return authority.context(NAME, SECOND, "dyndns.test")


@pytest.fixture
def sites(tmp_path: Path, authority: Authority, certified: ssl.SSLContext) -> Iterator[Sites]:
    port = servers.free_port(list(SITES.values()))
    settings = settings_of(tmp_path, port=port, ca_file=authority.ca_file)
    made = Sites(settings, {})
    made.answers["auth/approle/login"] = (200, auth("s.first"))
    made.answers["auth/token/renew-self"] = (200, auth("s.first"))
    with ExitStack() as stack:
        for site, address in SITES.items():
            server = TcpServer(servers.answering(certified, made.handle), address, port)
            made.servers[site] = stack.enter_context(server)
        yield made
