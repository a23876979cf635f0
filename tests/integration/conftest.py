from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.ceremony import OPERATORS, Ceremony
from tests.integration.servers import Authority, Cluster
from tests.pgp_homes import PgpHome


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, PgpHome]]:
    """Three operators with a keyring each; bob's key is RSA, the others' are ed25519 with cv25519."""
    homes = {name: PgpHome.create() for name in OPERATORS}
    try:
        for name, home in homes.items():
            algorithm, encryption = ("rsa2048", "rsa2048") if name == "bob" else ("ed25519", "cv25519")
            home.make_key(name, algorithm=algorithm, encryption=encryption)
        yield homes
    finally:
        for home in homes.values():
            home.destroy()


@pytest.fixture
def ceremony(tmp_path: Path, authority: Authority, people: dict[str, PgpHome]) -> Iterator[Ceremony]:
    """Three servers of which none is initialised, and what the modules need to know of them."""
    cluster = Cluster(tmp_path / "servers", ["n1", "n2", "n3"], authority)
    cluster.start()
    try:
        yield Ceremony(cluster, people, tmp_path / "controller")
    finally:
        cluster.stop()
