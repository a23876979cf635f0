"""Members of Raft that are replaced, join and leave, with real servers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.egi_secrets import node_state

from tests.integration.ceremony import Ceremony
from tests.integration.modules import Result, run_module
from tests.integration.servers import Authority, Cluster, Server
from tests.pgp_homes import PgpHome

THREE = ["n1", "n2", "n3"]


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, people: dict[str, PgpHome]
) -> Iterator[Ceremony]:
    """Three members, and a fourth server that is none yet."""
    directory = tmp_path_factory.mktemp("membership")
    servers = Cluster(directory / "servers", [*THREE, "n4"], authority)
    for name in THREE:
        servers[name].start()
    for name in THREE:
        servers[name].wait_for_port()
    try:
        made = Ceremony(servers, people, directory / "controller")
        made.init(nodes=arguments(made, THREE)).succeeded()
        made.unseal("alice", "bob", nodes=arguments(made, THREE)).succeeded()
        yield made
    finally:
        servers.stop()


def arguments(ceremony: Ceremony, names: list[str]) -> list[dict[str, str]]:
    return [ceremony.cluster[name].argument for name in names]


def log_of(server: Server) -> Path:
    return server.directory / "raft/raft/raft.db"


def runs(server: Server) -> bool:
    return server.process is not None and server.process.poll() is None


def disk(server: Server) -> bool | None:
    """Tell what look.yml would find on the host; of one that does not run, that it cannot be reached."""
    return node_state.remembers(log_of(server)) if runs(server) else None


def membership(ceremony: Ceremony, names: list[str], **wanted: Any) -> Result:
    """Run the module with an inventory of some names; all of the cluster's are known to it."""
    hosts = [{"name": name, "remembers": disk(ceremony.cluster[name])} for name in names]
    asked = list(dict.fromkeys([*names, *wanted.get("remove", [])]))
    given = {
        "nodes": arguments(ceremony, [name for name in asked if name in [*THREE, "n4"]]),
        "ca_file": str(ceremony.cluster.ca_file),
        "token": ceremony.root_token().reveal(),
        "timeout": 3.0,
        "hosts": hosts,
        "known": [*THREE, "n4"],
        "patience": 40.0,
        **wanted,
    }
    return run_module("vault_membership", **given)


def started(server: Server) -> None:
    server.start()
    server.wait_for_port()


def lose_disk(server: Server) -> None:
    server.kill()
    shutil.rmtree(server.directory / "raft")
    (server.directory / "raft").mkdir()


def join(ceremony: Ceremony, names: list[str]) -> None:
    ceremony.unseal("alice", "bob", nodes=arguments(ceremony, names)).succeeded()


def leader(ceremony: Ceremony) -> str:
    active = [each.name for each in ceremony.cluster.servers if runs(each) and ceremony.api(each).health().role == "active"]
    assert len(active) == 1, active
    return active[0]


def test_a_disk_is_known_by_what_raft_wrote_on_it(cluster: Ceremony) -> None:
    stranger = cluster.cluster["n4"]
    assert all(node_state.remembers(log_of(cluster.cluster[name])) for name in THREE)
    assert not node_state.remembers(log_of(stranger)), "it was never started"
    started(stranger)
    assert log_of(stranger).stat().st_size > 0
    assert not node_state.remembers(log_of(stranger)), "it was started, and has not joined"


@pytest.mark.long
def test_sites_join_leave_and_are_replaced(cluster: Ceremony) -> None:
    assert membership(cluster, THREE).succeeded()["next"]["kind"] == "done"

    # A fourth joins, as a non-voter first; the module waits until it votes.
    four = [*THREE, "n4"]
    if not runs(cluster.cluster["n4"]):
        started(cluster.cluster["n4"])
    planned = membership(cluster, four, check_mode=True).succeeded()
    assert (planned["next"]["kind"], planned["changes"]) == ("add", ["n4"])
    join(cluster, four)
    assert membership(cluster, four).succeeded()["next"]["kind"] == "done"

    # Nobody is removed whom the operator does not name; a name that is no member's is told of.
    assert "-e remove=n4" in membership(cluster, THREE).refused()
    nothing = membership(cluster, four, remove=["n5"]).succeeded()
    assert (nothing["next"]["kind"], nothing["changed"]) == ("done", False)
    assert "no member of Raft" in str(nothing["notes"])

    # The one that leads leaves: it hands over first, and its server's own idea of being a member disturbs nobody.
    leaving = leader(cluster)
    staying = [name for name in four if name != leaving]
    assert "step down" in str(membership(cluster, staying, remove=[leaving], check_mode=True).succeeded()["next"])
    assert membership(cluster, staying, remove=[leaving], act=leaving, check_mode=True).succeeded()["removals"] == [leaving]
    gone = membership(cluster, staying, remove=[leaving], act=leaving).succeeded()
    assert gone["changed"]
    assert leaving not in gone["peers"]
    now = leader(cluster)
    assert now != leaving

    # Its disk is that of a former member: it is not taken back as it is.
    former = cluster.cluster[leaving]
    assert "-e wipe=true" in membership(cluster, four).refused()
    emptied = membership(cluster, four, remove=[leaving], wipe=True, check_mode=True).succeeded()
    assert emptied["changes"] == [leaving, leaving], "emptied, and added"
    former.kill()

    # One of three is lost: a live one may not go, and its successor of the same name is not the voter that it was.
    lost = next(name for name in staying if name != now)
    third = next(name for name in staying if name not in (lost, now))
    lose_disk(cluster.cluster[lost])
    assert lost in membership(cluster, [now, lost], remove=[third], patience=15.0).refused()
    started(cluster.cluster[lost])
    assert f"-e remove={lost}" in membership(cluster, staying).refused()
    planned = membership(cluster, staying, remove=[lost]).succeeded()
    assert planned["changes"] == [lost, lost]
    assert "dead" in planned["plan"][0]
    membership(cluster, staying, remove=[lost], act=lost).succeeded()
    join(cluster, staying)
    assert membership(cluster, staying, remove=[lost]).succeeded()["next"]["kind"] == "done", "as is the same asked again"
    assert leader(cluster) in staying


def test_somebody_must_be_at_the_keyboard(cluster: Ceremony) -> None:
    assert "OIDC_ACCESS_TOKEN" in membership(cluster, THREE, token="", patience=0.0).refused()
