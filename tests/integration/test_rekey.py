"""Dealing the unseal keys anew, on real servers: by operators in turn, cut off anywhere, while leaders and nodes change."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.egi_secrets.api import Secret
from ansible.module_utils.egi_secrets.products import OPENBAO
from ansible.module_utils.egi_secrets.reconcile.policies import fill_in
from ansible.module_utils.egi_secrets.reconcile.server import Server as Client

from tests.integration.ceremony import Ceremony
from tests.integration.modules import REPOSITORY, Result, run_module
from tests.integration.servers import Authority, Cluster, wait_for
from tests.pgp_homes import PgpHome

STEPS = ("begin", "give", "verify", "close")
INIT = "sys/rotate/root/init"


def operators_token(ceremony: Ceremony) -> Secret:
    """Return a token that may do what the role of operators may, and no more."""
    root = ceremony.client(ceremony.cluster.servers[0])
    template = (REPOSITORY / "files/policies/operator.hcl").read_text()
    root.write("sys/policies/acl/operator", {"policy": fill_in("operator", template, OPENBAO.operator_api, {})})
    made = root.write("auth/token/create-orphan", {"policies": ["operator"], "ttl": "2h"})
    return Secret(str(made["auth"]["client_token"]))


class Rekey:
    """Operators who deal the keys of a cluster anew, and the copies of the bundle on its nodes."""

    def __init__(self, ceremony: Ceremony) -> None:
        self.ceremony = ceremony
        self.cluster = ceremony.cluster
        self.token = operators_token(ceremony)
        self.operators = ceremony.operators
        self.copies = {server.name: ceremony.bundle_file.read_text() for server in self.cluster.servers}

    @property
    def names(self) -> list[str]:
        return [server.name for server in self.cluster.servers]

    def compare(self, **arguments: Any) -> Result:
        """Do what every playbook does first: take the newest copy, and give it to the nodes."""
        copies = [{"node": name, "content": text} for name, text in self.copies.items()]
        result = self.ceremony.init(node_bundles=copies, operators=self.operators, **arguments).succeeded()
        self.copies = dict.fromkeys(self.copies, result["bundle"])
        return result

    def step(self, step: str, *names: str, **arguments: Any) -> Result:
        given = {
            "operators": self.operators,
            "threshold": 2,
            "bundle_file": str(self.ceremony.bundle_file),
            "gnupg_homes": self.ceremony.homes(*names),
            "token": self.token.reveal(),
            "step": step,
        }
        return self.ceremony.run("rekey", **{**given, **arguments})

    def run(self, *names: str, steps: tuple[str, ...] = STEPS, **arguments: Any) -> str:
        """Run the playbook as some operators, as far as some step, and return what it says."""
        self.compare(threshold=arguments.get("threshold", 2))
        told: list[str] = []
        for step in steps:
            result = self.step(step, *names, **arguments).succeeded()
            self.copies = dict.fromkeys(self.copies, result["bundle"])
            told += result["messages"]
        return "\n".join(told)

    def client(self, name: str) -> Client:
        return self.ceremony.client(self.cluster[name], self.token)

    def leader(self) -> str:
        found: list[str] = []

        def leads() -> bool:
            found[:] = [s.name for s in self.cluster.servers if self.ceremony.api(s).health().role == "active"]
            return len(found) == 1

        wait_for(leads, 60)
        return found[0]

    def step_down(self) -> None:
        leader = self.leader()
        run_module(
            "vault_step_down",
            nodes=self.cluster.arguments,
            ca_file=str(self.cluster.ca_file),
            token=self.token.reveal(),
            node=leader,
        ).succeeded()

    @property
    def bundle(self) -> dict[str, Any]:
        return self.ceremony.bundle

    def opens(self, name: str, *operators: str) -> bool:
        """Kill a node, and see whether the shares of some operators open it."""
        self.cluster[name].restart()
        result = self.ceremony.unseal(*operators)
        return not result.failed and {n["name"]: n["sealed"] for n in result["nodes"]}[name] is False


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory, authority: Authority, people: dict[str, PgpHome]) -> Iterator[Rekey]:
    """Three voters."""
    directory = tmp_path_factory.mktemp("rekey")
    servers = Cluster(
        directory / "servers", ["n1", "n2", "n3"], authority, patience=5
    )  # a leader is to change on purpose only
    servers.start()
    try:
        ceremony = Ceremony(servers, people, directory / "controller")
        ceremony.stand_up()
        ceremony.await_voters()
        yield Rekey(ceremony)
    finally:
        servers.stop()


@pytest.fixture
def rekey(standing: Rekey) -> Rekey:
    """All open, with nothing under way, and keys that are 2 of alice's, bob's and carol's."""
    for server in standing.cluster.servers:
        if server.process is None or server.process.poll() is not None:
            server.restart()
    standing.compare()
    standing.ceremony.unseal("alice", "bob", "carol").succeeded()
    standing.operators = standing.ceremony.operators
    standing.run("alice", "bob", "carol")
    wait_for(lambda: json.loads(standing.compare()["bundle"]).get("previous") is None, 30)
    assert standing.bundle.get("pending") is None
    return standing


def test_nothing_to_do_is_nothing_done(rekey: Rekey) -> None:
    before = rekey.ceremony.bundle_file.read_text()
    assert "as the inventory wants" in rekey.run("alice", "bob")
    assert rekey.ceremony.bundle_file.read_text() == before
    assert not rekey.step("begin", "alice").succeeded()["changed"]


def test_operators_in_turn_change_the_threshold_alone(rekey: Rekey) -> None:
    old = rekey.bundle
    foreseen = rekey.step("begin", "alice", threshold=3, check_mode=True).succeeded()
    assert foreseen["changed"]
    assert rekey.bundle == old

    alice = rekey.run("alice", threshold=3)
    assert "The rekey needs 1 more share of 2: bob or carol can supply it" in alice
    assert rekey.bundle["threshold"] == 2
    again = rekey.run("alice", threshold=3)
    assert "needs 1 more share of 2" in again

    bob = rekey.run("bob", threshold=3)
    assert "To verify the new shares, it needs 2 more shares of 3: alice or carol" in bob
    assert rekey.bundle["pending"]["shares"]
    assert rekey.bundle["threshold"] == 2

    assert "needs 1 more share of 3: bob or carol" in rekey.run("alice", threshold=3)
    assert not rekey.bundle["pending"]["closing"]
    carol = rekey.run("carol", threshold=3)
    assert "3 of 3 unseal from now on" in carol
    assert "Every member has the new keys on its disk" in carol
    new = rekey.bundle
    assert (new["threshold"], new["pending"], new["previous"]) == (3, None, None)
    assert new["root_token"] == old["root_token"]
    retired = rekey.ceremony.bundle_file.with_name(f"unseal-bundle.retired-{old['bundle_id'][:12]}.json")
    assert json.loads(retired.read_text())["bundle_id"] == old["bundle_id"]
    assert rekey.step("begin", "alice", threshold=3).succeeded()["retired"] == retired.read_text()  # for nodes that lack it
    # A standby goes on telling the numbers that it was opened by, and is no stranger for it.
    rekey.compare(threshold=3)
    assert rekey.opens("n2", "alice", "bob", "carol")
    rekey.run("alice", "bob", "carol")


@pytest.mark.long
def test_an_operator_is_replaced(rekey: Rekey, tmp_path: Path) -> None:
    dora = PgpHome.create()
    try:
        dora.make_key("dora")
        rekey.ceremony.people["dora"] = dora
        key = dora.export(tmp_path / "dora.asc")
        rekey.operators = [*rekey.ceremony.operators[:2], {"name": "dora", "pgp_key_file": str(key), "shares": 1}]
        assert "To verify" in rekey.run("bob", "carol")
        assert "in force" in rekey.run("dora", "bob")
        assert [share["operator"] for share in rekey.bundle["shares"]] == ["alice", "bob", "dora"]
        follower = next(name for name in rekey.names if name != rekey.leader())
        assert not rekey.opens(follower, "bob", "carol")
        rekey.ceremony.unseal("dora").succeeded()
        assert rekey.ceremony.api(rekey.cluster[follower]).seal_status().sealed is False
        rekey.run("alice", "dora")
    finally:
        rekey.operators = rekey.ceremony.operators
        rekey.run("alice", "bob", "dora")
        del rekey.ceremony.people["dora"]
        dora.destroy()


@pytest.mark.long
def test_a_key_that_cannot_encrypt_is_refused_before_anything_begins(rekey: Rekey, tmp_path: Path) -> None:
    eve = PgpHome.create()
    try:
        eve.make_key("eve", encryption=None)
        key = eve.export(tmp_path / "eve.asc")
        operators = [*rekey.ceremony.operators[:2], {"name": "eve", "pgp_key_file": str(key), "shares": 1}]
        assert "no encryption subkey" in rekey.step("begin", "alice", operators=operators).refused()
        short = rekey.step("begin", "alice", threshold=3, key_min_days=9999).refused()
        assert "the old shares are valid" in short
    finally:
        eve.destroy()
    assert not (rekey.client(rekey.leader()).read(INIT) or {})["started"]
    assert "OIDC_ACCESS_TOKEN" in rekey.step("begin", "alice", token="").refused()


@pytest.mark.long
@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("after", STEPS)
def test_cut_off_after_a_step_the_next_operator_goes_on(rekey: Rekey, after: str, lost: bool) -> None:
    """Where the controller dies before the nodes have what a step wrote, what they have is enough."""
    old = rekey.bundle["bundle_id"]
    rekey.compare()
    for step in STEPS[: STEPS.index(after) + 1]:
        before = dict(rekey.copies)
        result = rekey.step(step, "alice", "bob", anew=True).succeeded()
        rekey.copies = dict.fromkeys(rekey.copies, result["bundle"])
    if lost:
        rekey.copies = before
        rekey.ceremony.bundle_file.unlink()  # the next operator's controller
    told = rekey.run("bob", "carol", anew=after != "close")
    if after == "close" and lost:  # the same numbers before and after: only shares can tell
        assert "to see which ones are in force" in told
    assert rekey.bundle["bundle_id"] != old
    assert rekey.bundle["pending"] is None
    assert rekey.opens(next(name for name in rekey.names if name != rekey.leader()), "alice", "carol")


@pytest.mark.long
def test_another_leader_knows_nothing_and_it_begins_again(rekey: Rekey) -> None:
    old = rekey.bundle["bundle_id"]
    rekey.run("alice", anew=True)
    rekey.step_down()
    told = rekey.run("bob")
    assert "forgot the attempt" in told
    assert "needs 1 more share of 2: alice or carol" in told
    rekey.run("carol", steps=STEPS[:1], anew=True)
    rekey.step_down()  # between two steps of a run, which must not end as if all were well
    told = rekey.run("carol", steps=STEPS[1:])
    assert "forgot the attempt" in told or "another attempt" in told, "the node that leads may have been Alice's"
    assert "Run playbooks/operate/rekey.yml again." in told
    rekey.run("bob")
    rekey.run("alice")  # deals, and verifies with one
    rekey.step_down()
    rekey.run("alice", "bob")
    assert rekey.bundle["bundle_id"] != old
    assert rekey.bundle["pending"] is None


@pytest.mark.long
def test_a_node_that_leads_again_has_what_it_had(rekey: Rekey) -> None:
    """OpenBao keeps an attempt in the memory of a node that steps down, with the shares that it was given."""
    first = rekey.leader()
    rekey.run("alice", anew=True)
    rekey.step_down()
    rekey.run("bob")  # on another node, with an attempt that is the bundle's now
    while rekey.leader() != first:
        rekey.step_down()
    told = rekey.run("carol")
    assert "led before" in told
    assert "needs 1 more share of 2: alice or bob" in told, "Alice's share is not that of another attempt"
    rekey.run("alice", "bob")
    assert rekey.bundle["pending"] is None


@pytest.mark.long
@pytest.mark.parametrize("arrived", [False, True])
def test_the_last_share_may_have_arrived_and_operators_in_turn_find_out(rekey: Rekey, arrived: bool) -> None:
    """One share each, and the same numbers before and after: only the server's answer to a whole set can tell."""
    old = rekey.bundle["bundle_id"]
    rekey.run("alice", "bob", steps=STEPS[:3], anew=True)
    assert rekey.bundle["pending"]["closing"]
    if arrived:
        text = rekey.ceremony.bundle_file.read_text()
        rekey.step("close", "alice", "bob").succeeded()
        rekey.ceremony.bundle_file.write_text(text)  # as if cut off before the answer; the nodes have the same
    rekey.step_down()
    told = rekey.run("alice")
    assert "To see whether the new shares are in force, it needs 1 more share of 2" in told
    told = rekey.run("bob")
    if arrived:
        assert "The new shares are in force: 2 of 3" in told
    else:
        assert "refused the new shares that were given so far" in told
        assert "To see whether the old shares are in force, it needs 1 more share of 2: alice or carol" in told
        assert rekey.bundle["pending"]["closing"]
        assert "To verify the new shares, it needs 1 more share of 2" in rekey.run("alice")  # others than those of before
        assert "The new shares are in force: 2 of 3" in rekey.run("carol")
    assert rekey.bundle["bundle_id"] != old
    assert rekey.bundle["pending"] is None
    assert rekey.opens(next(name for name in rekey.names if name != rekey.leader()), "alice", "carol")


@pytest.mark.long
def test_a_strangers_share_in_a_proof_costs_a_round_and_no_keys(rekey: Rekey) -> None:
    """The new shares are in force, and the set that is to show it is refused for a share of nobody's."""
    rekey.run("alice", "bob", steps=STEPS[:3], anew=True)
    text = rekey.ceremony.bundle_file.read_text()
    new = rekey.step("close", "alice", "bob").succeeded()["bundle_id"]
    rekey.ceremony.bundle_file.write_text(text)
    rekey.run("alice", steps=STEPS[:1])
    proof = rekey.bundle["pending"]["proof"]["nonce"]
    stranger = rekey.ceremony.share_of_nobody.reveal()
    rekey.client(rekey.leader()).write("sys/rotate/root/update", {"key": stranger, "nonce": proof})
    assert "refused the new shares" in rekey.run("alice")
    assert "refused the old shares" in rekey.run("bob")
    assert "The new shares are in force: 2 of 3" in rekey.run("carol")
    assert rekey.bundle["bundle_id"] == new
    assert rekey.bundle["pending"] is None


def test_an_attempt_of_somebody_else_is_cancelled_and_told(rekey: Rekey) -> None:
    leader = rekey.client(rekey.leader())
    leader.write(INIT, {"secret_shares": 1, "secret_threshold": 1, "require_verification": False})
    told = rekey.run("alice", "bob")
    assert "A rekey was under way that is not the bundle's" in told
    assert not (leader.read(INIT) or {})["started"]

    # The same keys and numbers, begun by another.
    rekey.run("alice", anew=True)
    nonce = rekey.bundle["pending"]["attempt"]["nonce"]
    keys = [base64.b64encode(rekey.ceremony.people[str(o["name"])].gpg("--export")).decode() for o in rekey.operators]
    leader.delete(INIT)
    leader.write(INIT, {"secret_shares": 3, "secret_threshold": 2, "pgp_keys": keys, "require_verification": True})
    told = rekey.run("bob")
    assert "no share of this keyboard went to it" in told
    assert rekey.bundle["pending"]["attempt"]["nonce"] != nonce
    assert (leader.read(INIT) or {})["progress"] == 1
    rekey.run("alice", "carol")


@pytest.mark.long
def test_a_wrong_share_is_thrown_away(rekey: Rekey) -> None:
    leader = rekey.client(rekey.leader())
    rekey.run("alice", steps=STEPS[:1], anew=True)
    nonce = rekey.bundle["pending"]["attempt"]["nonce"]
    leader.write("sys/rotate/root/update", {"key": rekey.ceremony.share_of_nobody.reveal(), "nonce": nonce})
    told = rekey.run("bob")
    assert "thrown away with all others" in told
    rekey.run("carol")
    rekey.run("alice", "bob")
    assert rekey.bundle["pending"] is None


@pytest.mark.long
def test_a_node_that_was_down_is_opened_by_the_old_shares_and_then_by_the_new(rekey: Rekey) -> None:
    down = next(name for name in rekey.names if name != rekey.leader())
    rekey.cluster[down].kill()
    told = rekey.run("alice", "bob", anew=True)
    assert f"{down} may still want the keys from before" in told
    assert rekey.bundle["previous"]["unproven"] == [down]
    refused = rekey.step("begin", "alice", anew=True).refused()
    assert f"{down} may still want" in refused

    rekey.cluster[down].restart()
    alice = rekey.ceremony.unseal("alice").succeeded()
    assert {n["name"]: n["missing"] for n in alice["nodes"]}[down] == 1
    carol = rekey.ceremony.unseal("carol").succeeded()  # the same set as alice's: the nonce says which
    assert {n["name"]: n["sealed"] for n in carol["nodes"]}[down] is False
    wait_for(lambda: json.loads(rekey.compare()["bundle"])["previous"] is None, 30)
    assert rekey.opens(down, "alice", "carol")


@pytest.mark.long
def test_a_node_whose_keys_are_in_doubt_is_opened_by_operators_in_turn(rekey: Rekey) -> None:
    """The run was cut off after the new keys were in force: the nodes may want either, and do want the new."""
    rekey.run("alice", "bob", steps=STEPS[:3], anew=True)
    before = dict(rekey.copies)
    text = rekey.ceremony.bundle_file.read_text()
    rekey.step("close", "alice", "bob").succeeded()
    rekey.copies = before
    rekey.ceremony.bundle_file.write_text(text)
    # As if a node had been down meanwhile, and another not.
    content = json.loads(text)
    assert content["pending"]["closing"]
    follower = next(name for name in rekey.names if name != rekey.leader())
    rekey.cluster[follower].restart()
    assert {n["name"]: n["missing"] for n in rekey.ceremony.unseal("alice").succeeded()["nodes"]}[follower] == 1
    done = rekey.ceremony.unseal("carol").succeeded()
    assert {n["name"]: n["sealed"] for n in done["nodes"]}[follower] is False
    told = rekey.run("alice", "bob")
    assert rekey.bundle["pending"] is None
    assert "in force" in told


@pytest.mark.long
def test_copies_that_are_behind_are_brought_up_and_strangers_refused(rekey: Rekey) -> None:
    behind = dict(rekey.copies)
    rekey.run("alice", "bob", anew=True)
    rekey.copies["n3"] = behind["n3"]
    assert rekey.compare()["bundle_id"] == rekey.bundle["bundle_id"]

    rekey.ceremony.bundle_file.write_text(behind["n1"])  # a controller that was away
    assert json.loads(rekey.compare()["bundle"])["bundle_id"] != json.loads(behind["n1"])["bundle_id"]

    other = json.loads(behind["n3"])
    other["created"] = "2020-01-01T00:00:00Z"
    copies = [{"node": "n1", "content": rekey.copies["n1"]}, {"node": "n3", "content": json.dumps(other)}]
    assert "copies of the unseal bundle differ" in rekey.ceremony.init(node_bundles=copies).refused()


@pytest.mark.long
def test_nothing_secret_is_printed(rekey: Rekey) -> None:
    rekey.run("alice", "bob", anew=True)
    printed = "".join(rekey.ceremony.outputs)
    secrets = [rekey.ceremony.clear_share(number).reveal() for number in (1, 2, 3)] + [rekey.token.reveal()]
    assert [secret for secret in secrets if secret in printed] == []


def test_the_encryption_key_is_rotated(rekey: Rekey) -> None:
    given: dict[str, Any] = {
        "nodes": rekey.cluster.arguments,
        "ca_file": str(rekey.cluster.ca_file),
        "token": rekey.token.reveal(),
    }
    foreseen = run_module("vault_rotate_key", check_mode=True, **given).succeeded()
    done = run_module("vault_rotate_key", **given).succeeded()
    assert foreseen["before"]["term"] == done["before"]["term"]
    assert done["after"]["term"] == done["before"]["term"] + 1
    assert done["automatic"]["enabled"] is True
    assert rekey.opens(next(name for name in rekey.names if name != rekey.leader()), "alice", "bob")
