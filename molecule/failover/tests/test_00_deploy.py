"""The checkers are deployed on a cluster that is configured just before. It comes first: the other tests live on it.

On a lab where that has taken place already (`make lab`), what can still be shown is.
"""

from __future__ import annotations

import json

import pytest
from checkin import Checkin
from lab import Lab, leaks, wait_for

PROGRAM = "runuser -u endpoint-failover -- endpoint-failover"
# Where a secret could be seen that is nobody's business.
PLACES = {
    "journal": "journalctl --no-pager --output=cat",
    "arguments of processes": "ps -eo args",
    "environments of processes": "cat /proc/*/environ 2> /dev/null | tr '\\0' '\\n'",
    "temporary files": "cat /tmp/* /var/tmp/* /root/.ansible/tmp/*/* 2> /dev/null",
}
NAMES = ("vault.services.lab.test", "secrets.egi.lab.test")


@pytest.fixture(scope="module")
def jwt(lab: Lab) -> str:
    return Checkin(lab).token("alice")


@pytest.fixture(scope="module")
def deployed(lab: Lab, jwt: str) -> None:
    lab.play("deploy/config.yml", jwt=jwt)
    lab.play("deploy/failover.yml", jwt=jwt)


on_deployed = pytest.mark.usefixtures("deployed")


def status(lab: Lab, node: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(lab.ssh(node, f"{PROGRAM} status --json"))
    return found


def secrets_of(lab: Lab) -> list[str]:
    on_hosts = [lab.ssh(node, "cat /etc/endpoint-failover/secret-id").strip() for node in lab.nodes]
    tokens = [json.loads(lab.ssh(node, "cat /var/lib/endpoint-failover/token.json"))["value"] for node in lab.nodes]
    dyndns = [path.read_text().strip() for path in sorted((lab.state / "dyndns").glob("*.secret"))]
    dns = [path.read_text().strip() for path in sorted((lab.state / "dns").glob("*.key"))]
    return [*on_hosts, *tokens, *dyndns, *dns]


def test_without_an_operator_it_says_which_checkers_nobody_knows(lab: Lab) -> None:
    if lab.ssh("vault-iisas", "test -e /etc/endpoint-failover/secret-id", check=False) or lab.ssh(
        "vault-iisas", "ls /etc/endpoint-failover/secret-id", check=False
    ):
        pytest.skip("the checkers of this lab have their identity")
    run = lab.play("deploy/failover.yml")
    assert "have no identity in the cluster yet, and move nothing" in run.text
    assert "OIDC_ACCESS_TOKEN is not set" in run.text


@on_deployed
def test_each_name_is_at_its_first_candidate_that_serves(lab: Lab) -> None:
    def housed() -> bool:
        names = [status(lab, node)["names"] for node in lab.nodes]
        return all(each[name]["at"] in ("infn", "ifca") for each in names for name in NAMES)  # type: ignore[index]

    wait_for(housed, 60, "each name to be at a candidate")


@on_deployed
def test_a_run_that_changes_nothing_says_so(lab: Lab, jwt: str) -> None:
    for playbook in ("deploy/dns.yml", "deploy/dyndns.yml", "deploy/failover.yml"):
        assert lab.play(playbook, jwt=jwt).recap("changed") == 0, playbook
    assert lab.play("deploy/failover.yml").recap("changed") == 0  # and needs nobody for it


@on_deployed
def test_no_secret_is_shown_or_within_anybodys_reach(lab: Lab, jwt: str) -> None:
    secrets = secrets_of(lab)
    runs = [lab.play(f"deploy/{part}.yml", "-vvv", "--diff", jwt=jwt) for part in ("dns", "dyndns", "failover")]
    assert leaks("".join(run.output for run in runs), [*secrets, jwt]) == []
    for host in (*lab.nodes, "ns-iisas", "ns-ifca", "dyndns-iisas"):
        for place, command in PLACES.items():
            assert leaks(lab.ssh(host, command, check=False), secrets) == [], f"{host}: {place}"


@on_deployed
def test_files_are_the_checkers_own(lab: Lab) -> None:
    for node in lab.nodes:
        modes = lab.ssh(
            node,
            "cd /etc/endpoint-failover && stat -c '%a %U %n' role-id secret-id secret-id.accessor dyndns/* "
            "/var/lib/endpoint-failover /var/lib/endpoint-failover/token.json",
        ).splitlines()
        assert {line.split()[1] for line in modes} == {"endpoint-failover"}
        assert {line.split()[0] for line in modes if "lib/endpoint-failover" not in line} == {"600"}
        assert {line.split()[0] for line in modes if line.endswith(("/endpoint-failover", "token.json"))} == {
            "700",
            "600",
        }
        other = "runuser -u nobody -- sh -c 'cat /etc/endpoint-failover/secret-id /var/lib/endpoint-failover/memory.json'"
        assert lab.ssh(node, other, check=False) == ""


@on_deployed
def test_a_secret_id_that_leaked_is_replaced_by_removing_it(lab: Lab, jwt: str) -> None:
    before = lab.ssh("vault-ifca", "cat /etc/endpoint-failover/secret-id.accessor").strip()
    lab.ssh("vault-ifca", "rm /etc/endpoint-failover/secret-id")
    assert lab.play("deploy/failover.yml", jwt=jwt).recap("changed") > 0
    after = lab.ssh("vault-ifca", "cat /etc/endpoint-failover/secret-id.accessor").strip()
    operator = lab.api(lab.active(), "POST", "auth/jwt/login", {"jwt": jwt, "role": "configurator"}).body["auth"][
        "client_token"
    ]
    known = lab.api(lab.active(), "LIST", "auth/approle/role/checker/secret-id", token=operator).body["data"]["keys"]
    assert before not in known
    assert after in known
    assert len(known) == len(lab.nodes)


@on_deployed
def test_settings_that_do_not_fit_are_refused_before_anything_changes(lab: Lab) -> None:
    for given, sentence in (
        ('{"endpoint_failover_check": {"fall": 1}}', "check.fall is 1, and must be at least 2"),
        ('{"endpoint_failover_check": {"fal": 3}}', "check.fal"),
        ('{"endpoint_failover_secrets": {}}', "has no secret for secrets.egi.lab.test, vault.services.lab.test"),
        ('{"endpoint_failover_dyndns_url": "http://dyndns-iisas.lab.test/nic/update"}', "must be https://"),
        ('{"endpoint_failover_dns_servers": []}', "servers of vault.services.lab.test is empty"),
    ):
        run = lab.run("deploy/failover.yml", "-e", given)
        assert run.returncode != 0
        assert sentence in run.text, run.text[-2000:]
        assert run.recap("changed") == 0


@on_deployed
def test_a_person_sees_how_it_stands(lab: Lab) -> None:
    wait_for(lambda: "Nothing needs doing." in lab.ssh("vault-infn", f"{PROGRAM} status"), 90, "nothing to need doing")
    nagios = lab.ssh("vault-infn", f"{PROGRAM} status --nagios")
    assert nagios.startswith("OK: vault.services.lab.test at ")
    assert "names_serving=2" in nagios


@on_deployed
def test_units_are_hardened(lab: Lab) -> None:
    for host, unit in (("ns-iisas", "named"), ("ns-ifca", "named"), ("dyndns-iisas", "dyndns")):
        exposure = lab.ssh(host, f"systemd-analyze security --no-pager {unit} | tail -n 1")
        assert float(exposure.split(": ")[1].split()[0]) < 2.0, exposure
