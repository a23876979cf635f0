"""The key ceremony against real servers: what operators do, in turns, and what goes wrong on the way."""

from __future__ import annotations

import json
import signal
import stat
import time
from pathlib import Path

import pytest
from ansible.module_utils.egi_secrets.errors import UnreachableError

from tests.integration.ceremony import Ceremony
from tests.integration.configured import OPERATOR, Provider, declared
from tests.integration.modules import REPOSITORY, Result, run_module, start_module
from tests.integration.servers import Authority, Cluster, Server
from tests.pgp_homes import PgpHome


def states(nodes: list[dict[str, object]]) -> dict[str, tuple[object, object]]:
    return {str(node["name"]): (node["initialized"], node["missing"]) for node in nodes}


def wait_for_challenge(ceremony: Ceremony, server: Server) -> None:
    """Wait until the node's own retry_join has its join challenge: from then on it takes shares."""
    deadline = time.monotonic() + 15
    while not ceremony.api(server).seal_status().initialized:
        assert time.monotonic() < deadline, server.journal()
        time.sleep(0.1)


def test_operators_unseal_in_turns(ceremony: Ceremony) -> None:
    preflight = ceremony.preflight().succeeded()
    assert preflight["initialized"] is False
    foreseen = ceremony.init(check_mode=True).succeeded()
    assert (foreseen["changed"], foreseen["bundle"], ceremony.bundle_file.exists()) == (True, "", False)

    made = ceremony.init().succeeded()
    assert made["changed"]
    assert made["bundle"] == ceremony.bundle_file.read_text()
    assert made["root_token"]["state"] == "valid"
    assert stat.S_IMODE(ceremony.bundle_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(ceremony.controller.stat().st_mode) == 0o700
    again = ceremony.init().succeeded()
    assert not again["changed"]

    foreseen = ceremony.unseal("alice", check_mode=True).succeeded()
    assert foreseen["changed"]
    alice = ceremony.unseal("alice").succeeded()
    assert alice["changed"]
    assert states(alice["nodes"]) == {"n1": (True, 1), "n2": (False, 2), "n3": (False, 2)}
    assert any("n1 needs 1 more share of 2: bob or carol can supply it" in text for text in alice["messages"])
    assert not ceremony.unseal("alice").succeeded()["changed"]

    bob = ceremony.unseal("bob").succeeded()
    assert states(bob["nodes"]) == {"n1": (True, 0), "n2": (True, 1), "n3": (True, 1)}
    assert bob["active"] == "n1"

    alice = ceremony.unseal("alice").succeeded()
    assert states(alice["nodes"]) == {"n1": (True, 0), "n2": (True, 0), "n3": (True, 0)}
    assert alice["messages"] == []

    idle = ceremony.unseal("carol").succeeded()
    assert not idle["changed"]
    preflight = ceremony.preflight().succeeded()
    assert {node["cluster_id"] for node in preflight["nodes"]} != {""}
    assert len({node["cluster_id"] for node in preflight["nodes"]}) == 1

    printed = "".join(ceremony.outputs)
    secrets = [ceremony.clear_share(number).reveal() for number in (1, 2, 3)] + [ceremony.root_token().reveal()]
    assert [secret for secret in secrets if secret in printed] == []


def test_restarted_members_are_unsealed_and_strangers_shares_thrown_away(ceremony: Ceremony) -> None:
    ceremony.stand_up()
    ceremony.cluster["n3"].kill()
    missing = ceremony.unseal("alice", "bob").succeeded()
    assert any("n3" in text and "left out" in text for text in missing["messages"])
    warned = ceremony.preflight().succeeded()
    assert "n3" in warned.warnings

    ceremony.cluster["n3"].restart()
    ceremony.strangers_share(ceremony.cluster["n3"])
    disturbed = ceremony.unseal("alice", "bob").succeeded()
    assert any("share that is not of this cluster" in text for text in disturbed["messages"])
    assert states(disturbed["nodes"])["n3"] == (True, 0)

    for server in ceremony.cluster.servers:
        server.restart()
    cold = ceremony.unseal("bob", "carol").succeeded()
    assert states(cold["nodes"]) == {"n1": (True, 0), "n2": (True, 0), "n3": (True, 0)}
    assert cold["active"]


def test_stranger_cannot_wedge_a_node_that_is_joining(ceremony: Ceremony) -> None:
    ceremony.init().succeeded()
    n1, n2 = ceremony.cluster["n1"], ceremony.cluster["n2"]
    for number in (1, 2):
        ceremony.api(n1).submit_share(ceremony.clear_share(number), 5.0)
    wait_for_challenge(ceremony, n2)
    ceremony.strangers_share(n2)
    result = ceremony.unseal("alice", "bob").succeeded()
    assert states(result["nodes"])["n2"] == (True, 0)
    assert any("n2 held a share that is not of this cluster" in text for text in result["messages"])


def test_a_node_that_was_wedged_all_the_same_is_named_with_the_remedy(ceremony: Ceremony) -> None:
    ceremony.init().succeeded()
    n1, n2 = ceremony.cluster["n1"], ceremony.cluster["n2"]
    for number in (1, 2):
        ceremony.api(n1).submit_share(ceremony.clear_share(number), 5.0)
    wait_for_challenge(ceremony, n2)
    ceremony.strangers_share(n2)
    with pytest.raises(UnreachableError):
        ceremony.api(n2).submit_share(ceremony.clear_share(1), 1.0)
    told = ceremony.unseal("alice", "bob", timeout=1.0).succeeded()
    assert any("n2 answers sys/health but hangs" in text and "Restart its server" in text for text in told["messages"])
    assert states(told["nodes"])["n3"] == (True, 0)
    n2.restart()
    assert states(ceremony.unseal("alice", "bob").succeeded()["nodes"])["n2"] == (True, 0)


def test_lost_answer_of_init_is_recognised(ceremony: Ceremony) -> None:
    made = ceremony.init().succeeded()["bundle"]
    n1 = ceremony.cluster["n1"]

    ceremony.bundle_file.unlink()
    sentence = ceremony.init().refused()
    assert "n1 is initialised and neither the controller" in sentence
    assert "empty its Raft directory" in sentence

    kept_by_node = ceremony.init(node_bundles=[{"node": "n1", "content": made}]).succeeded()
    assert kept_by_node["changed"]
    assert ceremony.bundle_file.read_text() == made

    # Killed between writing and renaming: the complete temporary file is as good.
    ceremony.bundle_file.rename(ceremony.controller / ".unseal-bundle.json.abc.new")
    rescued = ceremony.init().succeeded()
    assert "interrupted write" in rescued["messages"][0]
    assert ceremony.bundle_file.read_text() == made

    ceremony.bundle_file.chmod(0o644)
    assert ceremony.init().succeeded()["changed"]
    assert stat.S_IMODE(ceremony.bundle_file.stat().st_mode) == 0o600

    # The remedy of the refusal works, and an old bundle in the way is refused before that.
    n1.kill()
    for file in (n1.directory / "raft").rglob("*"):
        if file.is_file():
            file.unlink()
    n1.restart()
    assert "No node is initialised, and there is an unseal bundle" in ceremony.init().refused()
    ceremony.bundle_file.rename(ceremony.controller / "moved-aside.json")
    assert ceremony.init().succeeded()["changed"]
    assert ceremony.bundle_file.read_text() != made


def test_a_run_that_is_ended_while_it_initialises_keeps_the_answer(ceremony: Ceremony) -> None:
    n1 = ceremony.cluster["n1"]
    process = start_module(
        "vault_cluster_init",
        nodes=ceremony.cluster.arguments,
        ca_file=str(ceremony.cluster.ca_file),
        **ceremony.init_arguments,
    )
    deadline = time.monotonic() + 30
    while "security barrier initialized" not in n1.journal():  # the request is under way, its answer is not there yet
        assert time.monotonic() < deadline, n1.journal()
        time.sleep(0.02)
    process.terminate()
    process.communicate()
    assert process.returncode == -signal.SIGTERM
    made = ceremony.bundle_file.read_text()
    assert ceremony.init().succeeded()["bundle"] == made
    assert ceremony.unseal("alice", "bob").succeeded()["active"] == "n1"


def test_nothing_is_initialised_while_a_member_is_down(ceremony: Ceremony) -> None:
    ceremony.cluster["n2"].kill()
    assert "n2" in ceremony.preflight().refused()
    assert "Every member must be up" in ceremony.init().refused()
    assert not ceremony.api(ceremony.cluster["n1"]).seal_status().initialized


def test_nothing_is_initialised_whose_bundle_has_no_safe_place(ceremony: Ceremony) -> None:
    ceremony.controller.mkdir()
    ceremony.controller.chmod(0o777)
    assert "Others than its owner may write" in ceremony.init().refused()
    ceremony.controller.rmdir()
    ceremony.controller.write_text("a file where the directory should be")
    assert "cannot be read (Not a directory)" in ceremony.init().refused()
    assert not ceremony.api(ceremony.cluster["n1"]).seal_status().initialized


def test_another_clusters_bundle_and_two_clusters_in_one_inventory(
    ceremony: Ceremony, tmp_path: Path, authority: Authority, people: dict[str, PgpHome]
) -> None:
    stray = Cluster(tmp_path / "stray", ["stray"], authority)
    stray.start()
    try:
        other = Ceremony(stray, people, tmp_path / "other")
        other.stand_up()
        ceremony.stand_up()

        mixed = ceremony.preflight(nodes=[*ceremony.cluster.arguments, *stray.arguments]).refused()
        assert "are of 2 clusters" in mixed
        assert "n1 and n2 and n3 in" in mixed
        assert "stray in" in mixed

        ceremony.cluster["n3"].restart()
        wrong = ceremony.unseal("alice", "bob", bundle_file=str(other.bundle_file)).refused()
        assert "n3 does not accept the key" in wrong

        differing = [{"node": "n1", "content": other.bundle_file.read_text()}]
        assert "copies of the unseal bundle differ" in ceremony.init(node_bundles=differing).refused()
    finally:
        stray.stop()


def hand_over(ceremony: Ceremony) -> Result:
    """Have the first root token make the operators' login, as site.yml does."""
    provider = Provider()
    result = run_module(
        "vault_config",
        nodes=ceremony.cluster.arguments,
        ca_file=str(ceremony.cluster.ca_file),
        bundle_file=str(ceremony.bundle_file),
        gnupg_homes=ceremony.homes("alice"),
        access_only=True,
        declared=declared(provider),
        policy_dir=str(REPOSITORY / "files/policies"),
        prove={"jwt": provider.token(OPERATOR), "login_roles": ["operator", "configurator"]},
    )
    ceremony.outputs.append(result.output)
    return result


def test_check_mode_takes_the_nodes_bundle_where_the_controller_has_none(ceremony: Ceremony) -> None:
    nodes = [{"node": "n1", "content": ceremony.init().succeeded()["bundle"]}]
    ceremony.bundle_file.unlink()
    found = ceremony.init(node_bundles=nodes, check_mode=True).succeeded()["bundle"]
    assert any("n1 needs" in text for text in ceremony.unseal(bundle=found, check_mode=True).succeeded()["messages"])
    assert ceremony.revoke_root(bundle=found, check_mode=True).succeeded()["changed"]
    assert not ceremony.bundle_file.exists()
    assert "playbooks/operate/unseal.yml" in ceremony.unseal(bundle=found).refused()


def test_first_root_token_is_revoked_once(ceremony: Ceremony) -> None:
    ceremony.stand_up()
    token = ceremony.root_token()
    active = ceremony.api(ceremony.cluster["n1"])

    assert "encrypted to alice" in ceremony.revoke_root("bob").refused()
    assert ceremony.revoke_root("alice", check_mode=True).succeeded()["changed"]
    assert active.token_policies(token) == ["root"]

    valid = ceremony.bundle_file.read_text()
    revoked = ceremony.revoke_root("alice").succeeded()
    assert revoked["changed"]
    assert revoked["root_token"]["state"] == "revoked"
    assert active.token_policies(token) is None
    assert json.loads(revoked["bundle"]) == ceremony.bundle
    assert not ceremony.revoke_root("bob").succeeded()["changed"]

    # Nodes still have the copy from before: the newer one wins, and is what they get.
    behind = [{"node": "n1", "content": valid}]
    assert ceremony.init(node_bundles=behind).succeeded()["root_token"]["state"] == "revoked"

    # Killed between revocation and mark: the next run's hand-over does nothing, and operators' own logins go on.
    ceremony.bundle_file.write_text(valid)
    handed = hand_over(ceremony).succeeded()
    assert not handed["changed"]
    assert "was cut off" in handed["notes"][0]
    marked = ceremony.revoke_root("alice").succeeded()
    assert marked["changed"]
    assert "had been revoked" in marked["messages"][0]
    assert token.reveal() not in "".join(ceremony.outputs)


def test_tls_is_verified_against_the_name(ceremony: Ceremony, tmp_path: Path) -> None:
    nodes = ceremony.cluster.arguments
    nodes[0] = {**nodes[0], "url": nodes[0]["url"].replace("n1.bao.test", "other.bao.test")}
    sentence = ceremony.preflight(nodes=nodes).refused()
    assert "n1 (https://other.bao.test" in sentence
    assert "TLS failed (Hostname mismatch" in sentence

    (tmp_path / "unrelated").mkdir()
    unrelated = Authority(tmp_path / "unrelated")
    sentence = ceremony.preflight(
        ca_file=str(unrelated.ca_file), environment={"REQUESTS_CA_BUNDLE": str(ceremony.cluster.ca_file)}
    ).refused()
    assert "TLS failed" in sentence
    assert "correct vault_cluster_ca_file" in ceremony.preflight(ca_file="/nonexistent").refused()
