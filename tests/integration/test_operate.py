"""What operators do to the running service, against a real server: identities of services, holds, leadership."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.egi_secrets.errors import RefusedError

from tests.integration.ceremony import Ceremony
from tests.integration.configured import Configured, declared
from tests.integration.modules import Result, run_module
from tests.integration.servers import Authority, Cluster

POLICIES = Path(__file__).resolve().parents[2] / "files/policies"
ROLE = "auth/approle/role/backup"
IDENTITY = "vault_service_identity"
HOLD = "vault_site_hold"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Configured]:
    """A server that is configured as declared."""
    directory = tmp_path_factory.mktemp("service")
    cluster = Cluster(directory, ["one"], Authority(directory))
    try:
        made = Configured.start(cluster, Path(shutil.copytree(POLICIES, directory / "policies")))
        made.run().succeeded()
        yield made
    finally:
        cluster.stop()


def ask(configured: Configured, module: str, *, role: str, check_mode: bool = False, **arguments: Any) -> Result:
    return run_module(
        module,
        check_mode=check_mode,
        nodes=configured.cluster.arguments,
        ca_file=str(configured.cluster.ca_file),
        jwt=arguments.pop("jwt", configured.operator_token),
        login_role=role,
        **arguments,
    )


def identities(service: Configured, held: dict[str, str], **arguments: Any) -> Result:
    return ask(service, IDENTITY, role="configurator", service="backup", held=held, complete=True, **arguments)


def hold(service: Configured, **arguments: Any) -> Result:
    return ask(service, HOLD, role="operator", **{"site": "ifca", "by": "alice", **arguments})


def accessors(service: Configured) -> set[str]:
    return set(service.client().names(f"{ROLE}/secret-id"))


def test_each_host_is_given_an_identity_once(service: Configured) -> None:
    foreseen = identities(service, {"a": "", "b": ""}, check_mode=True).succeeded()
    assert (foreseen["changed"], foreseen["issued"], foreseen["missing"]) == (True, {}, ["a", "b"])
    assert accessors(service) == set()

    made = identities(service, {"a": "", "b": ""}).succeeded()
    held = {host: each["accessor"] for host, each in made["issued"].items()}
    assert accessors(service) == set(held.values())
    login = {"role_id": made["role_id"], "secret_id": made["issued"]["a"]["secret_id"]}
    assert service.client().write("auth/approle/login", login)["auth"]["client_token"]

    again = identities(service, held).succeeded()
    assert (again["changed"], again["issued"], again["role_id"]) == (False, {}, made["role_id"])


def test_what_no_host_holds_is_taken_back(service: Configured) -> None:
    held = {"a": identities(service, {"a": ""}).succeeded()["issued"]["a"]["accessor"]}
    stray = service.client().write(f"{ROLE}/secret-id", {})["data"]

    # With a host out of reach nobody knows what it holds.
    some = ask(service, IDENTITY, role="configurator", service="backup", held=held, complete=False).succeeded()
    assert (some["changed"], stray["secret_id_accessor"] in accessors(service)) == (False, True)

    done = identities(service, held).succeeded()
    assert done["revoked"] == [stray["secret_id_accessor"]]
    assert accessors(service) == set(held.values())
    with pytest.raises(RefusedError):
        service.client().write("auth/approle/login", {"role_id": done["role_id"], "secret_id": stray["secret_id"]})


def test_an_identity_that_was_revoked_is_replaced(service: Configured) -> None:
    done = identities(service, {"a": "00000000-0000-0000-0000-000000000000"}).succeeded()

    assert done["missing"] == ["a"]
    assert accessors(service) == {done["issued"]["a"]["accessor"]}


def test_an_unknown_service_and_a_login_that_may_not_are_refused(service: Configured) -> None:
    unknown = ask(service, IDENTITY, role="configurator", service="nobody", held={"a": ""}).refused()
    assert "no AppRole nobody" in unknown
    assert "vault_config_services" in unknown
    assert "HTTP 403" in ask(service, IDENTITY, role="operator", service="backup", held={"a": ""}).refused()
    assert "OIDC_ACCESS_TOKEN" in ask(service, IDENTITY, role="configurator", jwt="", service="backup", held={}).refused()


def test_a_hold_lasts_and_is_not_cut_short(service: Configured) -> None:
    foreseen = hold(service, lasts="2h", why="disks", check_mode=True).succeeded()
    assert (foreseen["changed"], foreseen["holds"]) == (True, {})

    held = hold(service, lasts="2h", why="disks").succeeded()
    assert held["hold"] == {"until": held["hold"]["until"], "by": "alice", "why": "disks"}
    assert held["hold"]["until"] - held["now"] == 7200
    assert held["holds"] == {"ifca": held["hold"]}

    assert not hold(service, lasts="1h", why="disks").succeeded()["changed"]
    longer = hold(service, lasts="3h", why="disks").succeeded()
    assert longer["hold"]["until"] - longer["now"] == 10800

    stranger = hold(service, lasts="1h", by="bob").refused()
    assert "held by alice already (disks)" in stranger
    assert "restore-site.yml" in stranger
    assert hold(service, state="told").succeeded()["hold"] == longer["hold"]

    assert hold(service, state="released", by="bob").succeeded()["changed"]
    done = hold(service, state="released").succeeded()
    assert (done["changed"], done["hold"], done["holds"]) == (False, None, {})


def test_a_site_is_held_again_after_its_hold_was_released_or_ran_out(service: Configured) -> None:
    hold(service, lasts="1s").succeeded()
    time.sleep(2.1)
    assert hold(service, state="told", site="").succeeded()["holds"] == {}
    assert hold(service, by="bob").succeeded()["hold"] == {"until": 0, "by": "bob", "why": ""}
    # Until released: nothing is longer.
    assert not hold(service, by="bob", lasts="9d").succeeded()["changed"]
    hold(service, state="released").succeeded()
    assert hold(service, by="").succeeded()["hold"]["by"].startswith("jwt-")
    hold(service, state="released").succeeded()


def test_what_is_no_duration_is_refused(service: Configured) -> None:
    for text in ("2", "h", "-1h", "0s", "2 hours", "1e9h"):
        assert f"'{text}' is no duration" in hold(service, lasts=text).refused()


def test_a_checker_can_read_a_hold_and_not_make_one(service: Configured) -> None:
    declaration = declared(service.provider)
    declaration["policies"].append({"name": "service-checker", "file": "service-checker.hcl"})
    service.run(declaration).succeeded()
    hold(service, lasts="1h").succeeded()
    token = service.client().write("auth/token/create", {"policies": ["service-checker"]})["auth"]["client_token"]
    checker = service.client(token)

    assert (checker.read("operations/data/holds/ifca") or {})["data"]["by"] == "alice"
    for method in ("POST", "DELETE"):
        with pytest.raises(RefusedError):
            checker.request(method, "operations/data/holds/ifca", {"data": {}} if method == "POST" else None)
    hold(service, state="released").succeeded()


def test_leadership_is_handed_over(ceremony: Ceremony) -> None:
    ceremony.stand_up()
    given: dict[str, Any] = {
        "nodes": ceremony.cluster.arguments,
        "ca_file": str(ceremony.cluster.ca_file),
        "token": ceremony.root_token().reveal(),
    }
    ceremony.await_voters()
    before = run_module("vault_step_down", node="n2", **given).succeeded()
    assert (before["changed"], before["leader"], before["attempts"]) == (False, "n1", 0)
    assert run_module("vault_step_down", node="n1", check_mode=True, **given).succeeded()["leader"] == "n1"

    done = run_module("vault_step_down", node="n1", **given).succeeded()
    assert done["changed"]
    assert done["leader"] in {"n2", "n3"}
    assert not run_module("vault_step_down", node="n1", **given).succeeded()["changed"]
