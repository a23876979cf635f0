"""The module vault_config against a real server."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.egi_secrets.api import Secret
from ansible.module_utils.egi_secrets.errors import ReconcileError, RefusedError
from ansible.module_utils.egi_secrets.reconcile import declare, ledger
from ansible.module_utils.egi_secrets.reconcile.apply import Outcome, Run
from ansible.module_utils.egi_secrets.reconcile.proof import Proof
from ansible.module_utils.egi_secrets.reconcile.server import Server as Client

from tests.integration.configured import OPERATOR, Configured, declared
from tests.integration.servers import Authority, Cluster

POLICIES = Path(__file__).resolve().parents[2] / "files/policies"


@pytest.fixture(scope="module")
def policy_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(POLICIES, tmp_path_factory.mktemp("files") / "policies"))


@contextmanager
def started(directory: Path, policy_dir: Path) -> Iterator[Configured]:
    cluster = Cluster(directory, ["one"], Authority(directory))
    try:
        yield Configured.start(cluster, policy_dir)
    finally:
        cluster.stop()


@pytest.fixture
def service(tmp_path: Path, policy_dir: Path) -> Iterator[Configured]:
    """A server of the test's own, of which nothing is configured."""
    with started(tmp_path, policy_dir) as made:
        yield made


@pytest.fixture
def own(service: Configured) -> Configured:
    """A server of the test's own that is as declared."""
    service.run().succeeded()
    return service


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory, policy_dir: Path) -> Iterator[Configured]:
    """A server that is as declared; tests share it, and leave it so."""
    with started(tmp_path_factory.mktemp("configured"), policy_dir) as made:
        made.run().succeeded()
        yield made


def ids(plan: list[dict[str, str]]) -> set[str]:
    return {f"{step['action']} {step['id']}" for step in plan}


def test_everything_is_made_at_once_and_nothing_the_second_time(service: Configured) -> None:
    dry = service.run(check_mode=True).succeeded()
    assert dry["changed"]
    assert service.client().names("sys/policies/acl") == ["default", "root"]

    first = service.run().succeeded()
    assert first["changed"]
    assert ids(first["plan"]) == ids(dry["plan"])
    second = service.run(jwt=service.operator_token).succeeded()
    assert second["plan"] == [], second["diff"]
    assert not second["changed"]
    assert second["foreign"] == []
    assert second["acted_as"] == "role configurator"


def test_the_hand_over_makes_the_operators_way_in_and_an_operator_does_the_rest(service: Configured) -> None:
    first = service.run(access_only=True).succeeded()
    assert "create role:jwt/configurator" in ids(first["plan"])
    assert "create role:jwt/personal" not in ids(first["plan"])

    rest = service.run(jwt=service.operator_token).succeeded()
    assert "create role:jwt/personal" in ids(rest["plan"])
    assert not service.run(jwt=service.operator_token).succeeded()["changed"]


def test_members_reach_their_vo_and_a_locker_does_not(configured: Configured) -> None:
    member = configured.log_in("vo.one", "ada@egi.eu", entitlements=["urn:one"])
    member.write("secrets/vos/vo.one/key", {"a": "1"})
    locker = member.write("auth/token/create", {"policies": ["default"], "ttl": "60s", "renewable": False})
    with pytest.raises(RefusedError, match="403"):
        configured.client(locker["auth"]["client_token"]).read("secrets/vos/vo.one/key")


DRIFT: dict[str, Callable[[Client], object]] = {
    "mount:secrets": lambda client: client.write("sys/mounts/secrets/tune", {"description": "mine"}),
    "auth:approle": lambda client: client.write("sys/auth/approle/tune", {"max_lease_ttl": "1h"}),
    "policy:personal": lambda client: client.write(
        "sys/policies/acl/personal", {"policy": 'path "x" { capabilities = ["read"] }'}
    ),
    "policy:default": lambda client: client.write(
        "sys/policies/acl/default", {"policy": 'path "x" { capabilities = ["read"] }'}
    ),
    "role:jwt/personal": lambda client: client.write(
        "auth/jwt/role/personal", {**(client.read("auth/jwt/role/personal") or {}), "token_period": "100h"}
    ),
    "role:approle/backup": lambda client: client.write(
        "auth/approle/role/backup", {"token_bound_cidrs": ["0.0.0.0/0"], "bind_secret_id": False}
    ),
    "group:people": lambda client: client.write("identity/group/name/people", {"policies": ["personal", "operator"]}),
    "group:vo-vo.one": lambda client: client.delete("identity/group/name/vo-vo.one"),
    "quota:logins": lambda client: client.write("sys/quotas/rate-limit/logins", {"path": "auth/jwt/login", "rate": 1000}),
}


def test_drift_of_each_kind_is_shown_and_mended(configured: Configured) -> None:
    for spoil in DRIFT.values():
        spoil(configured.client())

    shown = configured.run(check_mode=True, jwt=configured.operator_token, login_role="operator").succeeded()
    assert {step["id"] for step in shown["plan"]} == set(DRIFT)
    assert "token_period: 360000" in shown["diff"]["before"]
    assert "bind_secret_id: false" in shown["diff"]["before"]
    configured.run(jwt=configured.operator_token).succeeded()
    assert not configured.run(jwt=configured.operator_token).succeeded()["changed"]


def test_what_is_declared_no_longer_goes_and_what_holds_data_stays(own: Configured) -> None:
    client = own.client()
    client.write("secrets/vos/vo.two/deep/key", {"a": "1"})
    client.write("sys/policies/acl/foreign", {"policy": 'path "x" { capabilities = ["read"] }'})
    client.write("sys/mounts/foreign", {"type": "kv"})
    less = declared(own.provider)
    less["vos"] = less["vos"][:1]
    less["auth"] = less["auth"][:1]
    less["roles"] = less["roles"][:3]
    less["groups"] = []

    run = own.run(less).succeeded()
    assert {
        "remove role:jwt/vo.two",
        "remove role:jwt/vo.two.writers",
        "remove policy:vo-vo.two-read",
        "remove group:people",
    } <= ids(run["plan"])
    assert set(run["foreign"]) == {"policy:foreign", "mount:foreign"}
    kept = " ".join(run["kept"])
    assert "vo:vo.two is kept" in kept
    assert "auth:approle is kept" in kept
    assert client.read("secrets/vos/vo.two/deep/key") == {"a": "1"}
    assert not own.run(less).succeeded()["changed"]

    gone = own.run(less, remove=["vo:vo.two", "auth:approle"]).succeeded()
    assert ids(gone["plan"]) == {"remove vo:vo.two", "remove auth:approle"}
    assert client.read("secrets/vos/vo.two/deep/key") is None
    assert client.read("sys/policies/acl/foreign") is not None


def with_secret(service: Configured, secret: str) -> dict[str, Any]:
    declaration = declared(service.provider)
    authority = service.cluster.ca_file.read_text()
    settings = {"kubernetes_host": "https://kubernetes.test", "kubernetes_ca_cert": authority, "disable_local_ca_jwt": True}
    method = {"path": "pods", "type": "kubernetes", "settings": settings, "secret_settings": {"token_reviewer_jwt": secret}}
    declaration["auth"].append(method)
    return declaration


def test_a_secret_that_the_server_does_not_return_is_compared_and_never_shown(own: Configured) -> None:
    first = own.run(with_secret(own, "correct horse")).succeeded()
    assert "token_reviewer_jwt: (hidden)" in first["diff"]["after"]
    assert not own.run(with_secret(own, "correct horse")).succeeded()["changed"]
    other = own.run(with_secret(own, "battery staple")).succeeded()
    assert ids(other["plan"]) == {"update config:pods"}
    assert not own.run(with_secret(own, "battery staple")).succeeded()["changed"]
    assert not [secret for secret in ("correct horse", "battery staple") if secret in first.output + other.output]


def spoilt(service: Configured, role: str, **settings: Any) -> dict[str, Any]:
    declaration = copy.deepcopy(declared(service.provider))
    for each in declaration["roles"]:
        if each["name"] == role:
            each["settings"].update(settings)
    return declaration


@pytest.mark.parametrize("role", ["operator", "configurator"])
def test_a_role_that_would_lock_operators_out_is_not_written(configured: Configured, role: str) -> None:
    wrong = spoilt(configured, role, bound_claims={"azp": ["cli"], "sub": ["nobody@egi.eu"]})
    sentence = configured.run(wrong, jwt=configured.operator_token).refused()
    assert f"a login with role {role} was refused" in sentence
    configured.log_in(role)
    assert not configured.run(jwt=configured.operator_token).succeeded()["changed"]


def test_a_policy_with_which_nobody_could_configure_is_not_written(configured: Configured, tmp_path: Path) -> None:
    policies = tmp_path / "narrow"
    shutil.copytree(configured.policy_dir, policies)
    (policies / "configurator.hcl").write_text('path "sys/mounts" {\n  capabilities = ["read"]\n}\n')
    sentence = configured.run(jwt=configured.operator_token, policy_dir=str(policies)).refused()
    assert "with role configurator nobody could" in sentence
    assert not configured.run(jwt=configured.operator_token).succeeded()["changed"]


@pytest.mark.parametrize(
    "path", ["sys/auth", "sys/mounts", "auth/+/role/", "identity/group-alias"], ids=lambda path: str(path).replace("/", "-")
)
def test_nor_is_one_with_which_the_next_run_could_not_begin(configured: Configured, tmp_path: Path, path: str) -> None:
    policies = Path(shutil.copytree(configured.policy_dir, tmp_path / "lacking"))
    whole = (policies / "configurator.hcl").read_text()
    lacking = re.sub(rf'path "{re.escape(path)}" {{[^}}]*}}\n', "", whole)
    assert lacking != whole
    (policies / "configurator.hcl").write_text(lacking)
    sentence = configured.run(jwt=configured.operator_token, policy_dir=str(policies)).refused()
    assert "with role configurator nobody could" in sentence
    assert not configured.run(jwt=configured.operator_token).succeeded()["changed"]


def test_login_settings_that_do_not_work_are_not_written(configured: Configured) -> None:
    wrong = declared(configured.provider)
    wrong["auth"][0]["settings"]["bound_issuer"] = "https://elsewhere.test"
    sentence = configured.run(wrong, jwt=configured.operator_token).refused()
    assert "so it was not changed" in sentence
    configured.log_in("configurator")
    assert not configured.run(jwt=configured.operator_token).succeeded()["changed"]


def test_a_change_of_the_login_without_a_token_to_try_it_is_refused(configured: Configured) -> None:
    wrong = spoilt(configured, "configurator", token_ttl="30m")
    prove = {"jwt": "", "login_roles": ["operator", "configurator"]}
    assert "no access token is at hand" in configured.run(wrong, prove=prove).refused()
    shown = configured.run(wrong, prove=prove, check_mode=True).succeeded()
    assert (ids(shown["plan"]), len(shown["notes"])) == ({"update role:jwt/configurator"}, 1), "a look needs no such token"
    assert not configured.run().succeeded()["changed"]


def test_bad_declarations_change_nothing(service: Configured, tmp_path: Path) -> None:
    policies = tmp_path / "broken"
    shutil.copytree(service.policy_dir, policies)
    (policies / "personal.hcl").write_text('path "secrets/users/${jwt_accessor}/*" {\n  capabilities = ["raed"]\n')
    assert "is no HCL" in service.run(policy_dir=str(policies)).refused()
    twice = declared(service.provider)
    twice["vos"][1]["entitlement"] = "urn:one"
    assert "the same entitlement" in service.run(twice).refused()
    assert service.client().names("sys/policies/acl") == ["default", "root"]


def test_another_run_at_the_same_time_is_noticed(configured: Configured) -> None:
    client = configured.client()
    mine = ledger.read(client, "operations")
    theirs = ledger.read(client, "operations")
    ledger.write(client, "operations", mine, {**mine.made, "policy": mine.made["policy"] | {"a"}}, mine.hashes)
    with pytest.raises(ReconcileError, match="at the same time"):
        ledger.write(client, "operations", theirs, {**theirs.made, "policy": theirs.made["policy"] | {"b"}}, theirs.hashes)


def test_the_ledger_takes_more_names_than_the_server_takes_strings(configured: Configured) -> None:
    # OpenBao refuses a JSON body with more than a thousand strings.
    client = configured.client()
    before = ledger.read(client, "operations")
    many = {*before.made["policy"], *(f"vo-name-{number}" for number in range(3000))}
    after = ledger.write(client, "operations", before, {**before.made, "policy": many}, before.hashes)
    assert ledger.read(client, "operations").made["policy"] == many
    ledger.write(client, "operations", after, before.made, before.hashes)


def with_vos(service: Configured, *vos: dict[str, Any]) -> dict[str, Any]:
    return declared(service.provider, vos=list(vos))


ONE, TWO = {"name": "vo.one", "entitlement": "urn:one"}, {"name": "vo.two", "entitlement": "urn:two"}
CHANGES_OF_VOS = {
    "members only read from now on": [{**ONE, "members": "read", "writers": ["urn:one:writer"]}, TWO],
    "renamed": [{**ONE, "name": "vo.new"}, TWO],
    "entitlements exchanged": [{**ONE, "entitlement": "urn:two"}, {**TWO, "entitlement": "urn:one"}],
}


@pytest.mark.parametrize("after", CHANGES_OF_VOS.values(), ids=CHANGES_OF_VOS)
def test_vos_change_and_their_groups_with_them(configured: Configured, after: list[dict[str, Any]]) -> None:
    configured.run(with_vos(configured, ONE, TWO)).succeeded()
    changed = with_vos(configured, *after)
    configured.run(changed).succeeded()
    assert not configured.run(changed).succeeded()["changed"]
    configured.run().succeeded()


def test_roles_of_a_method_that_is_declared_no_longer_go_and_the_method_stays(own: Configured) -> None:
    less = declared(own.provider)
    less["auth"], less["roles"] = less["auth"][:1], less["roles"][:3]
    assert ids(own.run(less).succeeded()["plan"]) == {"remove role:approle/backup"}
    assert own.client().names("auth/approle/role") == []


def test_tuning_that_nobody_declared_is_drift(configured: Configured) -> None:
    client = configured.client()
    client.write("sys/auth/jwt/tune", {"audit_non_hmac_request_keys": ["jwt"], "max_lease_ttl": "90s"})
    client.write("sys/mounts/secrets/tune", {"audit_non_hmac_response_keys": ["data"]})
    run = configured.run(jwt=configured.operator_token).succeeded()
    assert ids(run["plan"]) == {"update auth:jwt", "update mount:secrets"}
    assert "jwt" in run["diff"]["before"]
    assert not configured.run(jwt=configured.operator_token).succeeded()["changed"]


def test_tuning_with_which_logins_would_last_no_time_is_not_written(configured: Configured) -> None:
    wrong = declared(configured.provider)
    wrong["auth"][0]["tune"] = {"max_lease_ttl": "3s"}
    assert "would last 3 s" in configured.run(wrong, jwt=configured.operator_token).refused()
    assert not configured.run(jwt=configured.operator_token).succeeded()["changed"]


def test_a_policy_default_that_would_lock_operators_out_is_not_written(configured: Configured, tmp_path: Path) -> None:
    policies = Path(shutil.copytree(configured.policy_dir, tmp_path / "deny"))
    denial = 'path "sys/policies/acl/*" {\n  capabilities = ["deny"]\n}\n'
    (policies / "default.hcl").write_text((policies / "default.hcl").read_text() + denial)
    sentence = configured.run(jwt=configured.operator_token, policy_dir=str(policies)).refused()
    assert "with role configurator nobody could" in sentence
    assert not configured.run(jwt=configured.operator_token).succeeded()["changed"]


def test_a_name_that_was_ours_once_is_somebody_elses_later(own: Configured) -> None:
    client = own.client()
    more = declared(own.provider)
    more["policies"].append({"name": "passing", "file": "service-backup.hcl"})
    own.run(more).succeeded()
    client.delete("sys/policies/acl/passing")
    own.run().succeeded()
    client.write("sys/policies/acl/passing", {"policy": 'path "x" { capabilities = ["read"] }'})
    assert own.run().succeeded()["foreign"] == ["policy:passing"]


def test_a_token_that_cannot_be_one_is_not_shown(configured: Configured) -> None:
    result = configured.run(token="s.SECRET\nSECRET", jwt="")
    assert "a character that no token has" in result.refused()
    assert "SECRET" not in result.output.replace("VALUE_SPECIFIED", "")


class Dying(Client):
    """A client that is killed at its n-th change."""

    left = 0

    def request(self, method: str, *arguments: Any, **more: Any) -> dict[str, Any] | None:
        if method in ("POST", "DELETE"):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
        return super().request(method, *arguments, **more)


def test_killed_at_each_change_and_run_again(own: Configured) -> None:
    server = own.cluster.servers[0]
    client = own.client()
    client.write("sys/policies/acl/foreign", {"policy": 'path "x" { capabilities = ["read"] }'})
    more = declared(own.provider)
    more["roles"][2]["settings"] = {**more["roles"][2]["settings"], "token_ttl": "30m"}
    more["vos"] = [{**ONE, "members": "read"}, {"name": "vo.new", "entitlement": "urn:new"}]

    def run(client: Client, wanted: dict[str, Any], *, check_mode: bool = False) -> Outcome:
        declaration = declare.read(complete(wanted), own.policy_dir, ())
        return Run(client, declaration, proof, access_only=False).run(check_mode=check_mode)

    proof = Proof(Secret(own.operator_token), "jwt", ["operator", "configurator"])
    for count in range(200):
        dying = Dying(server.node, str(own.cluster.ca_file), 5.0, 1)
        dying.act_with(Secret(own.root))
        dying.left = count
        try:
            run(dying, more)
        except KeyboardInterrupt:
            own.log_in("configurator")  # whatever was killed, operators get in
            finished = False
        else:
            finished = True
        run(client, more)
        again = run(client, more, check_mode=True)
        assert not again.changed, (count, again.plan)
        assert [str(ident) for ident in again.plan.foreign] == ["policy:foreign"]
        if finished:
            assert count > 20
            return
        run(client, declared(own.provider))
    raise AssertionError("It never came to its end.")


def complete(declaration: dict[str, Any]) -> dict[str, Any]:
    """Fill in what Ansible fills in: the defaults of what was left out."""
    defaults: dict[str, dict[str, Any]] = {
        "mounts": {"description": "", "options": {}, "tune": {}, "access": False},
        "auth": {"description": "", "tune": {}, "settings": {}, "secret_settings": {}, "access": False},
        "policies": {"variables": {}, "access": False},
        "roles": {"access": False},
        "groups": {},
        "quotas": {},
        "vos": {"members": "write", "writers": []},
    }
    filled = {kind: [{**usual, **each} for each in declaration[kind]] for kind, usual in defaults.items()}
    return {"ledger_mount": "operations", **declaration, **filled}


def test_an_operator_is_needed(configured: Configured) -> None:
    stranger = configured.provider.token("stranger@egi.eu")
    sentence = configured.run(jwt=stranger).refused()
    assert "was refused" in sentence
    assert OPERATOR not in sentence
    assert stranger not in sentence
