"""A root token from a quorum of shares, on real servers: operators in turn, strangers in between, and nothing left over."""

from __future__ import annotations

import base64
import datetime
import hashlib
import http.client
import json
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from socket import create_connection
from typing import Any

import pytest
from ansible.module_utils.egi_secrets.api import Secret
from ansible.module_utils.egi_secrets.errors import CeremonyError, SecretsError
from ansible.module_utils.egi_secrets.operate import root_record, root_shares, root_status
from ansible.module_utils.egi_secrets.pgp import encrypt, load_public_key
from ansible.module_utils.egi_secrets.products import OPENBAO

from tests.integration.ceremony import OPERATORS, Ceremony
from tests.integration.modules import REPOSITORY, Result, run_module
from tests.integration.servers import Authority, Cluster, Server
from tests.pgp_homes import PgpHome

ATTEMPT, UPDATE = OPENBAO.api["generate_root_attempt"], OPENBAO.api["generate_root_update"]


@dataclass
class Turns:
    """Operators at their keyboards, one after the other; what the nodes remember is `record`."""

    ceremony: Ceremony
    record: str = ""
    outputs: list[str] = field(default_factory=list)

    @property
    def token_file(self) -> Path:
        return self.ceremony.controller / "root-token.asc"

    @property
    def active(self) -> Server:
        return self.named("active")

    @property
    def standby(self) -> Server:
        return self.named("standby")

    def step_down(self) -> None:
        """Have another node lead."""
        before, token = self.active, self.ceremony.root_token().reveal()
        while self.active is before:
            self.network(before, "POST", "sys/step-down", {}, token)
            time.sleep(0.5)

    def forget(self) -> None:
        """Have no attempt in any standby's memory, for the tests that follow."""
        active = self.active
        for server in self.ceremony.cluster.servers:
            if server is not active:
                server.restart()

    def named(self, role: str) -> Server:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for server in self.ceremony.cluster.servers:
                try:
                    if self.ceremony.api(server).health().role == role:
                        return server
                except SecretsError:
                    continue
            time.sleep(0.1)
        raise AssertionError(f"no node is {role}")

    def on_the_node(self, further: dict[str, Any]) -> dict[str, Any]:
        given: dict[str, Any] = {
            "socket": str(self.active.socket),
            "attempt_path": ATTEMPT,
            "update_path": UPDATE,
            "operator": "alice",
        }
        result = run_module("vault_root_attempt", **given, **further)
        self.outputs.append(result.output)
        return result.values

    def turn(self, *names: str, operator: str = "alice") -> dict[str, Any]:
        """One run of the playbook's middle: begin, remember, give, remember."""
        told: dict[str, Any] = {}
        messages: list[str] = []
        for homes in ([], self.ceremony.homes(*names)):
            told = root_shares.go_on(
                {
                    "operator": operator,
                    "operators": self.ceremony.operators,
                    "bundle_file": str(self.ceremony.bundle_file),
                    "records": [self.record] if self.record else [],
                    "now": time.time(),
                    "gnupg_homes": homes,
                },
                self.on_the_node,
                check_mode=False,
            )
            if told.get("failed"):
                raise CeremonyError(str(told["msg"]))
            self.record = told["record"]
            messages += told["messages"]
        return told | {"messages": messages}

    def token(self, *names: str, state: str = "present", ttl: int = 600, record: str | None = None) -> Result:
        result = self.ceremony.run(
            "token",
            family="vault_root",
            state=state,
            records=[self.record if record is None else record] if (record is None or record) else [],
            bundle_file=str(self.ceremony.bundle_file),
            gnupg_homes=self.ceremony.homes(*names),
            token_file=str(self.token_file),
            operators=self.ceremony.operators,
            ttl=ttl,
        )
        if not result.failed:
            self.record = result["record"]
        return result

    def clear(self) -> Secret:
        return Secret(self.ceremony.people["alice"].gpg("--decrypt", str(self.token_file)).decode().strip())

    def network(self, server: Server, method: str, path: str, body: object = None, token: str = "") -> tuple[int, Any]:
        """What somebody on the network gets from a node."""
        context = ssl.create_default_context(cafile=str(self.ceremony.cluster.ca_file))
        connection = http.client.HTTPSConnection(server.fqdn, timeout=10)
        connection.sock = context.wrap_socket(create_connection(("127.0.0.1", server.port), 10), server_hostname=server.fqdn)
        headers = {"X-Vault-Token": token} if token else {}
        connection.request(method, f"/v1/{path}", None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text) if text else {}

    def root_tokens(self, token: str) -> list[dict[str, Any]]:
        deadline = time.monotonic() + 20  # while a leader is elected, nobody lists anything
        status: int = 0
        listed: dict[str, Any] = {}
        while status != 200 and time.monotonic() < deadline:
            status, listed = self.network(self.active, "LIST", "auth/token/accessors", token=token)
        assert status == 200, (status, listed)
        looked = [
            self.network(self.active, "POST", "auth/token/lookup-accessor", {"accessor": accessor}, token)[1]
            for accessor in listed["data"]["keys"]
        ]
        return [each["data"] for each in looked if each["data"]["policies"] == ["root"]]


@pytest.fixture(scope="module")
def standing(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, people: dict[str, PgpHome]
) -> Iterator[Ceremony]:
    """A cluster that is unsealed; its tests leave no attempt behind."""
    place = tmp_path_factory.mktemp("root")
    cluster = Cluster(place / "s", ["n1", "n2", "n3"], authority)
    cluster.start()
    try:
        ceremony = Ceremony(cluster, people, place / "controller")
        ceremony.stand_up()
        ceremony.await_voters()
        time.sleep(6)  # a root token of the last 5 s would be taken for what a killed run left, and be revoked
        yield ceremony
    finally:
        cluster.stop()


@pytest.fixture
def turns(standing: Ceremony) -> Iterator[Turns]:
    turns = Turns(standing)
    deadline = time.monotonic() + 20
    while standing.unseal("alice", "bob").failed and time.monotonic() < deadline:
        time.sleep(0.2)
    turns.on_the_node({"cancel": True})
    yield turns
    turns.token_file.unlink(missing_ok=True)


def test_two_operators_in_turn_and_the_recipient_last(turns: Turns) -> None:
    first = turns.turn("bob")
    assert "1 of 2 shares. Now alice runs" in first["missing"]
    assert not first["complete"]
    last = turns.turn("alice")
    assert last["complete"]
    assert last["messages"] == []
    turns.token("alice").succeeded()
    assert turns.ceremony.api(turns.active).token_policies(turns.clear()) == ["root"]
    assert turns.token("alice", state="absent").succeeded()["record"] == ""


@pytest.mark.long
def test_the_recipients_share_waits_for_the_others(turns: Turns) -> None:
    first = turns.turn("alice")
    assert "has 0 of 2 shares" in first["missing"]
    assert "bob or carol" in first["missing"]
    turns.turn("carol")
    assert turns.turn("alice")["complete"]
    turns.token("alice").succeeded()
    turns.token("alice", state="absent").succeeded()


@pytest.mark.long
def test_others_alone_never_complete_it(turns: Turns) -> None:
    """A root token is made where the key is that opens it, never to lie about."""
    turns.turn("bob")
    assert not turns.turn("carol")["complete"]
    assert not turns.turn("bob", "carol")["complete"]
    assert turns.turn("alice")["complete"]
    turns.token("alice").succeeded()
    turns.token("alice", state="absent").succeeded()


def test_no_root_token_is_left_over(turns: Turns) -> None:
    first = turns.ceremony.root_token().reveal()
    before = {token["accessor"] for token in turns.root_tokens(first)}
    turns.turn("alice", "bob")
    turns.token("alice").succeeded()
    made = [token for token in turns.root_tokens(first) if token["accessor"] not in before]
    assert [(token["ttl"] > 0, token["explicit_max_ttl"], token["renewable"]) for token in made] == [(True, 600, False)]
    token = turns.clear()
    turns.token("alice", state="absent").succeeded()
    assert {token["accessor"] for token in turns.root_tokens(first)} == before
    assert turns.ceremony.api(turns.active).token_policies(token) is None


@pytest.mark.long
def test_the_token_ends_by_itself(turns: Turns) -> None:
    turns.turn("alice", "bob")
    turns.token("alice", ttl=2).succeeded()
    token, api = turns.clear(), turns.ceremony.api(turns.active)
    deadline = time.monotonic() + 15
    while api.token_policies(token) is not None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert api.token_policies(token) is None
    assert "had ended by itself" in str(turns.token("alice", state="absent").succeeded()["messages"])


@pytest.mark.long
def test_the_file_is_for_its_owner_and_in_clear_nowhere(turns: Turns) -> None:
    turns.turn("alice", "bob")
    result = turns.token("alice").succeeded()
    assert turns.token_file.stat().st_mode & 0o777 == 0o600
    secrets = [turns.clear().reveal(), *(turns.ceremony.clear_share(number).reveal() for number in (1, 2, 3))]
    everything = "".join([result.output, *turns.outputs, turns.record, turns.token_file.read_text()])
    assert [number for number, secret in enumerate(secrets) if secret in everything] == []
    turns.token("alice", state="absent").succeeded()


def strangers_attempt(turns: Turns) -> str:
    """Through the door that a standby leaves ajar, with a PGP key of the stranger's."""
    home = turns.ceremony.people["carol"]
    key = base64.b64encode(home.gpg("--export")).decode()
    turns.network(turns.standby, "DELETE", ATTEMPT)
    status, answer = turns.network(turns.standby, "PUT", ATTEMPT, {"pgp_key": key})
    assert status == 200
    return str(answer["nonce"])


@pytest.mark.long
def test_a_strangers_attempt_before_ours_is_cancelled_and_told(turns: Turns) -> None:
    nonce = strangers_attempt(turns)
    told = turns.turn("bob")
    assert any("STRANGER" in message and nonce in message for message in told["messages"])
    assert root_record.parse(turns.record).given == (2,)  # type: ignore[union-attr]
    status, _ = turns.network(turns.standby, "PUT", UPDATE, {"nonce": nonce, "key": "00" * 33})
    assert status == 400


def test_a_strangers_attempt_between_the_turns_gets_no_share(turns: Turns) -> None:
    turns.turn("bob")
    nonce = strangers_attempt(turns)
    told = turns.turn("alice")
    assert any("STRANGER" in message and nonce in message for message in told["messages"])
    assert not told["complete"]
    assert "has 0 of 2 shares" in told["missing"]
    turns.turn("bob")
    assert turns.turn("alice")["complete"]
    turns.token("alice").succeeded()
    turns.token("alice", state="absent").succeeded()


@pytest.mark.long
def test_an_attempt_for_our_own_key_that_no_run_of_ours_began_gets_no_share(turns: Turns) -> None:
    """Public keys are public: that the fingerprint is right proves nothing."""
    turns.network(turns.standby, "DELETE", ATTEMPT)
    key = base64.b64encode(turns.ceremony.people["alice"].gpg("--export")).decode()
    _, answer = turns.network(turns.standby, "PUT", ATTEMPT, {"pgp_key": key})
    told = turns.turn("bob")
    assert any(answer["nonce"] in message for message in told["messages"])


@pytest.mark.long
def test_a_strangers_share_spoils_an_attempt_and_nothing_else(turns: Turns) -> None:
    turns.turn("bob")
    nonce = json.loads(turns.record)["nonce"]
    share = turns.ceremony.share_of_nobody.reveal()
    status, answer = turns.network(turns.standby, "PUT", UPDATE, {"nonce": nonce, "key": share})
    assert status == 400 and "aborted" in str(answer)
    told = turns.turn("alice", "bob")
    assert any("0 shares where our runs gave 1" in message for message in told["messages"])
    assert told["complete"]
    turns.token("alice").succeeded()
    turns.token("alice", state="absent").succeeded()


@pytest.mark.long
def test_a_strangers_share_in_front_of_ours(turns: Turns) -> None:
    turns.turn()
    nonce = json.loads(turns.record)["nonce"]
    share = turns.ceremony.share_of_nobody.reveal()
    assert turns.network(turns.standby, "PUT", UPDATE, {"nonce": nonce, "key": share})[0] == 200
    told = turns.turn("bob", "alice")
    assert any("1 shares where our runs gave 0" in message for message in told["messages"])
    assert told["complete"]
    turns.token("alice").succeeded()
    turns.token("alice", state="absent").succeeded()


@pytest.mark.long
def test_another_node_becomes_active_between_the_turns(turns: Turns) -> None:
    turns.turn("bob")
    turns.step_down()
    told = turns.turn("alice")
    assert any("another node became active" in message for message in told["messages"])
    assert not told["complete"]
    turns.turn("bob")
    assert turns.turn("alice")["complete"]
    turns.token("alice").succeeded()
    turns.token("alice", state="absent").succeeded()
    turns.forget()


@pytest.mark.long
def test_a_node_that_leads_again_has_what_it_had(turns: Turns) -> None:
    """OpenBao keeps an attempt in the memory of a node that steps down: it is ours, and no stranger's."""
    turns.turn("bob")
    before, nonce = turns.active, json.loads(turns.record)["nonce"]
    turns.step_down()
    assert any("another node became active" in message for message in turns.turn()["messages"])
    while turns.active is not before:
        turns.step_down()
    seen = root_status.todo([turns.record], [{"started": True, "nonce": nonce}], time.time())
    assert "no run of ours" not in str(seen)
    told = turns.turn("bob", "alice")
    assert [message for message in told["messages"] if "led before" in message]
    assert not [message for message in told["messages"] if "STRANGER" in message]
    assert told["complete"]
    turns.token("alice").succeeded()
    turns.token("alice", state="absent").succeeded()
    turns.forget()


@pytest.mark.long
def test_shares_of_another_cluster_are_told(turns: Turns) -> None:
    answer = turns.on_the_node({
        "fingerprint": turns.ceremony.bundle["shares"][0]["fingerprint"],
        "pgp_key": base64.b64encode(turns.ceremony.people["alice"].gpg("--export")).decode(),
        "shares": [{"index": 2, "own": False, "key": "5a" * 33}, {"index": 1, "own": True, "key": "a5" * 32 + "01"}],
    })  # fmt: skip
    assert answer["failed"]
    assert "does not accept the key that the shares at hand make" in answer["msg"]


@pytest.mark.long
def test_killed_after_the_server_made_the_token(turns: Turns) -> None:
    """Nobody has that token: the next run makes another one, and revokes it."""
    first = turns.ceremony.root_token().reveal()
    before = {token["accessor"] for token in turns.root_tokens(first)}
    turns.turn("bob")
    remembered = turns.record
    assert turns.turn("alice")["complete"]
    turns.record = remembered
    assert len(turns.root_tokens(first)) == len(before) + 1
    turns.turn("alice", "bob")
    done = turns.token("alice").succeeded()
    assert "a killed run left over" in str(done["messages"])
    turns.token("alice", state="absent").succeeded()
    assert {token["accessor"] for token in turns.root_tokens(first)} == before


@pytest.mark.long
def test_killed_after_the_server_made_the_token_and_given_up(turns: Turns) -> None:
    """Nobody has that token, and nothing is under way: what is given up is still revoked by the next run."""
    first = turns.ceremony.root_token().reveal()
    before = {token["accessor"] for token in turns.root_tokens(first)}
    turns.turn("bob")
    remembered = turns.record
    assert turns.turn("alice")["complete"]
    assert turns.token(state="absent", record=remembered).succeeded()["record"]
    assert len(turns.root_tokens(first)) == len(before) + 1
    assert turns.turn("alice", "bob", operator="bob")["complete"]
    assert "a killed run left over" in str(turns.token("bob").succeeded()["messages"])
    turns.token("bob", state="absent").succeeded()
    assert {token["accessor"] for token in turns.root_tokens(first)} == before


@pytest.mark.long
def test_the_operator_is_gone_before_the_exchange(turns: Turns) -> None:
    """Another quorum makes its own token, with which the one that nobody can open is revoked."""
    first = turns.ceremony.root_token().reveal()
    before = {token["accessor"] for token in turns.root_tokens(first)}
    turns.turn("alice", "bob")
    assert "for another operator revokes it" in turns.token("bob", state="absent").refused()
    told = turns.turn("bob", "carol", operator="bob")
    assert "A root token was made for alice" in str(told["messages"])
    turns.token("bob").succeeded()
    turns.token("bob", state="absent").succeeded()
    assert {token["accessor"] for token in turns.root_tokens(first)} == before


@pytest.mark.long
def test_tokens_that_end_meanwhile_do_not_stop_the_exchange(turns: Turns) -> None:
    """A service in use: between the list of tokens and the look at each, some end."""
    first = turns.ceremony.root_token().reveal()
    wanted = {"policies": ["default"], "ttl": "1s"}
    ended = threading.Event()

    def users() -> None:
        while not ended.is_set():
            for _ in range(20):
                turns.network(turns.active, "POST", "auth/token/create-orphan", wanted, first)

    at_work = threading.Thread(target=users)
    at_work.start()
    try:
        for _ in range(3):
            assert turns.turn("alice", "bob")["complete"]
            told = turns.token("alice").succeeded()["messages"]
            assert not [message for message in told if "could not be looked" in message]
            turns.token("alice", state="absent").succeeded()
    finally:
        ended.set()
        at_work.join()


@pytest.mark.long
def test_killed_after_the_exchange(turns: Turns) -> None:
    """The nodes still remember the token that is revoked: what was handed over is found in its file."""
    turns.turn("alice", "bob")
    remembered = turns.record
    turns.token("alice").succeeded()
    accessor = json.loads(turns.record)["accessor"]
    again = turns.token("alice", record=remembered).succeeded()
    assert json.loads(again["record"])["accessor"] == accessor
    assert root_record.parse(again["record"]).digest == hashlib.sha256(turns.token_file.read_bytes()).hexdigest()  # type: ignore[union-attr]
    turns.token("alice", state="absent").succeeded()


@pytest.mark.long
def test_killed_after_the_exchange_and_given_up(turns: Turns) -> None:
    """The nodes still remember the token that is revoked; the one in the file is valid, and no record tells of it."""
    turns.turn("alice", "bob")
    remembered = turns.record
    turns.token("alice").succeeded()
    token, api = turns.clear(), turns.ceremony.api(turns.active)
    ended = turns.token("alice", state="absent", record=remembered).succeeded()
    assert api.token_policies(token) is None
    assert ended["record"] == ""


@pytest.mark.long
@pytest.mark.parametrize("written", [True, False])
def test_killed_in_the_middle_of_the_exchange_and_given_up(turns: Turns, written: bool) -> None:
    """Both tokens are valid by then, and the second may be in no file yet."""
    turns.turn("alice", "bob")
    alice = turns.ceremony.people["alice"]
    message = base64.b64decode(json.loads(turns.record)["message"])
    shares_token = alice.gpg("--decrypt", stdin=message).decode().strip()
    wanted = {"policies": ["root"], "ttl": "600s", "meta": {"made_by": "generate-root", "for": "alice"}}
    _, answer = turns.network(turns.active, "POST", "auth/token/create-orphan", wanted, shares_token)
    token = Secret(answer["auth"]["client_token"])
    if written:
        key = load_public_key(str(turns.ceremony.operators[0]["pgp_key_file"]), datetime.datetime.now(datetime.UTC))
        turns.token_file.write_text(encrypt(token, key))
    turns.token("alice", state="absent").succeeded()
    api = turns.ceremony.api(turns.active)
    assert [api.token_policies(each) for each in (token, Secret(shares_token))] == [None, None]


@pytest.mark.long
def test_a_file_that_nobody_at_hand_opens_is_not_given_up(turns: Turns) -> None:
    """Its token may be valid: whoever removes file and records on that answer would lose it."""
    turns.turn("alice", "bob")
    bobs = load_public_key(str(turns.ceremony.operators[1]["pgp_key_file"]), datetime.datetime.now(datetime.UTC))
    turns.token_file.write_text(encrypt(Secret("s.nothing"), bobs))
    refused = turns.token("alice", state="absent").refused()
    assert "No key at hand opens" in refused
    assert str(turns.token_file) in refused
    turns.token("alice", "bob", state="absent").succeeded()


@pytest.mark.long
def test_an_earlier_tokens_file_ends_nothing(turns: Turns) -> None:
    """An operator with two controllers: on one lies the file of a token that ended long ago."""
    turns.turn("alice", "bob")
    turns.token("alice").succeeded()
    earlier = turns.token_file.read_bytes()
    turns.token("alice", state="absent").succeeded()
    turns.turn("alice", "bob")
    turns.token("alice").succeeded()
    file, token, api = turns.token_file.read_bytes(), turns.clear(), turns.ceremony.api(turns.active)
    turns.token_file.write_bytes(earlier)
    assert "has another token in" in turns.token("alice", state="absent").refused()
    assert api.token_policies(token) == ["root"]
    turns.token_file.write_bytes(file)
    turns.token("alice", state="absent").succeeded()


@pytest.mark.long
def test_killed_in_the_middle_of_ending_it(turns: Turns) -> None:
    turns.turn("alice", "bob")
    turns.token("alice").succeeded()
    remembered = turns.record
    turns.token("alice", state="absent").succeeded()
    again = turns.token("alice", state="absent", record=remembered).succeeded()
    assert "not valid any more" in str(again["messages"])
    turns.token("alice", state="absent", record="").succeeded()


@pytest.mark.long
def test_what_is_not_at_hand_is_said(turns: Turns) -> None:
    turns.turn("alice", "bob")
    assert "whose secret key is in no keyring at hand: let alice run this" in turns.token("bob").refused()
    turns.token("alice").succeeded()
    with pytest.raises(CeremonyError, match="alice has a root token until"):
        turns.turn("bob", operator="bob")
    file = turns.token_file.read_bytes()
    turns.token_file.unlink()
    assert "let alice run this where it was made" in turns.token("alice", state="absent").refused()
    turns.token_file.write_bytes(file)
    turns.token("alice", state="absent").succeeded()


@pytest.mark.long
def test_two_tokens_are_not_made_at_once(turns: Turns) -> None:
    turns.turn("bob")
    with pytest.raises(CeremonyError, match="An attempt for alice is under way"):
        turns.turn("carol", operator="bob")


@pytest.mark.long
@pytest.mark.parametrize("operator", ["mallory", ""])
def test_an_operator_whom_nobody_knows(turns: Turns, operator: str) -> None:
    with pytest.raises(CeremonyError, match="alice, bob, carol"):
        turns.turn("bob", operator=operator)


@pytest.mark.long
def test_an_operator_without_a_share(turns: Turns, tmp_path: Path) -> None:
    home = PgpHome.create()
    try:
        home.make_key("dave", algorithm="ed25519", encryption="cv25519")
        dave = {"name": "dave", "pgp_key_file": str(home.export(tmp_path / "dave.asc")), "shares": 1}
    finally:
        home.destroy()
    known = turns.ceremony.operators
    turns.ceremony.operators = [*known, dave]
    try:
        with pytest.raises(CeremonyError, match="holds no share"):
            turns.turn("bob", operator="dave")
    finally:
        turns.ceremony.operators = known
    assert OPERATORS


@pytest.mark.long
def test_ansible_hands_shares_over_and_shows_none(turns: Turns, tmp_path: Path) -> None:
    """Through the action plugin, at the highest verbosity; and not at all where Ansible would write a file on the node."""
    task = {
        "vault_root_attempt": {
            "socket": str(turns.active.socket),
            "attempt_path": ATTEMPT,
            "update_path": UPDATE,
            "operator": "alice",
            "operators": turns.ceremony.operators,
            "bundle_file": str(turns.ceremony.bundle_file),
            "bundle": turns.ceremony.bundle_file.read_text(),
            "now": time.time(),
            "gnupg_homes": turns.ceremony.homes("alice", "bob"),
        },
        "register": "done",
    }
    told = {"ansible.builtin.debug": {"msg": "complete: {{ done.complete }}"}}
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(json.dumps({"all": {"hosts": {"localhost": here}}}))
    playbook = tmp_path / "play.yml"
    playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [task, told]}]))

    def play(**environment: str) -> str:
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-vvv", "-i", str(inventory), str(playbook)]
        settings = {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", **environment}
        done = subprocess.run(
            command, env=os.environ | settings, capture_output=True, text=True, check=False, cwd=REPOSITORY
        )
        return done.stdout + done.stderr

    assert "no share was sent" in " ".join(play(ANSIBLE_KEEP_REMOTE_FILES="1").split())
    assert turns.network(turns.standby, "GET", ATTEMPT)[1]["progress"] == 0
    output = play()
    assert "complete: True" in output, output[-3000:]
    shares = [turns.ceremony.clear_share(number).reveal() for number in (1, 2, 3)]
    assert [number for number, share in enumerate(shares) if share in output] == []


@pytest.mark.long
def test_check_mode_takes_the_nodes_bundle_where_the_controller_has_none(turns: Turns) -> None:
    given: dict[str, Any] = {
        "operator": "alice",
        "operators": turns.ceremony.operators,
        "bundle_file": str(turns.ceremony.controller / "none.json"),
        "bundle": turns.ceremony.bundle_file.read_text(),
        "now": time.time(),
    }
    assert "has 0 of 2 shares" in root_shares.go_on(given, turns.on_the_node, check_mode=True)["missing"]


DOORS = [
    (method, path)
    for method in ("GET", "PUT", "DELETE")
    for path in ("generate-root/attempt", "generate-root/update", "rekey/init", "rekey/update", "rekey/verify")
]


def test_the_doors_of_every_role(turns: Turns) -> None:
    """From the network: shut on the active node, ajar on a standby, and worth nothing there; a sealed node has none."""
    found = {door: turns.network(turns.active, door[0], f"sys/{door[1]}", {})[0] for door in DOORS}
    assert set(found.values()) == {405}
    ajar = {door for door in DOORS if turns.network(turns.standby, door[0], f"sys/{door[1]}", {})[0] in (200, 204)}
    assert ajar == {
        (method, f"{what}") for method in ("GET", "DELETE") for what in ("generate-root/attempt", "rekey/init")
    } | {("PUT", "generate-root/attempt")}
    sealed = turns.standby
    sealed.restart()
    deadline = time.monotonic() + 15
    while turns.network(sealed, "GET", "sys/health")[0] != 503 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert {turns.network(sealed, method, f"sys/{path}", {})[0] for method, path in DOORS} == {503}
