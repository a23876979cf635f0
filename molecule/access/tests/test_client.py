"""EGI's client on a user's VM, end to end; beside it the plain command line, curl and oidc-agent."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from checkin import ISSUER, Checkin
from lab import Lab, wait_for
from personas import Personas
from sign_in import SCOPES
from user_vm import Account

SERVICE = "https://vault-infn.lab.test:8200"
# What the client is without our mends: the same release, and the finder that puts them on taken away.
UNMENDED = r"""
unmended() {
  REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt /opt/fedcloudclient/current/bin/python -c '
import sys
del sys.meta_path[0]
from fedcloudclient.cli import cli
cli()
' "$@"
}
"""
CURL = "curl --silent --show-error --fail --config headers"
# Keeps the token out of the list of processes.
HEADERS = 'umask 077; printf \'header = "X-Vault-Token: %s"\\n\' "$TOKEN" > headers; '
AGENT_FILES = ".oidc-agent .config/oidc-agent .config/fedcloud/config.yaml agent encryption generated"


@pytest.fixture(scope="session")
def ada(lab: Lab) -> Account:
    """Ada on her VM: the client by the role, the rest from Debian as people install it."""
    lab.play("deploy/client.yml")
    for host, packages in (("vm", "curl oidc-agent-cli"), ("vm-job", "curl")):
        lab.ssh(
            host,
            f"dpkg --status {packages} > /dev/null 2>&1 || {{ apt-get -qq update && DEBIAN_FRONTEND=noninteractive "
            f"apt-get install -qq --yes --no-install-recommends {packages}; }}",
        )
    release = f"{lab.resource}-vault-infn:/opt/openbao/current/bao"
    lab.podman("cp", release, f"{lab.resource}-vm:/usr/local/bin/bao")
    return Account(lab, "vm")


@pytest.fixture(scope="session")
def job(lab: Lab, ada: Account) -> Account:
    """A job on another VM that Ada started. It has curl, and what it is given; like her VM it trusts the service's CA."""
    ca = (lab.state / "ca/ca.crt").read_text()
    lab.ssh("vm-job", "cat > /usr/local/share/ca-certificates/lab.crt && update-ca-certificates > /dev/null 2>&1", stdin=ca)
    return Account(lab, "vm-job", "job")


@pytest.fixture(scope="session")
def signed_in(lab: Lab) -> dict[str, str]:
    """The environment of somebody who has an access token."""
    return {"FEDCLOUD_OIDC_ACCESS_TOKEN": Checkin(lab).token("ada")}


@pytest.fixture(scope="session")
def subject(lab: Lab) -> str:
    return Checkin(lab).people["ada"]


@pytest.fixture
def locker(ada: Account, signed_in: dict[str, str]) -> dict[str, str]:
    """A new locker, as the environment of whoever has it."""
    return {"FEDCLOUD_LOCKER_TOKEN": ada.run("fedcloud secret locker create", signed_in).strip()}


# --- the role -------------------------------------------------------------------------------------------------------------


def test_a_second_run_changes_nothing(lab: Lab, ada: Account) -> None:
    assert lab.play("deploy/client.yml").recap("changed") == 0


@pytest.mark.long
def test_a_check_of_a_vm_that_has_it_wants_no_change(lab: Lab, ada: Account) -> None:
    assert lab.play("deploy/client.yml", "--check", "--diff").recap("changed") == 0


@pytest.mark.long
def test_an_installation_that_was_cut_off_is_made_good(lab: Lab, ada: Account) -> None:
    home = lab.ssh("vm", "readlink --canonicalize /opt/fedcloudclient/current").strip()
    lab.ssh("vm", f"rm -r {home}/complete {home}/lib/python3*/site-packages/click")
    lab.play("deploy/client.yml")
    assert "version" in ada.run("fedcloud --version")


def test_no_fault_of_the_release_is_left(ada: Account) -> None:
    assert json.loads(ada.run("/opt/fedcloudclient/current/bin/python -m fedcloudclient_mend"))["faults"] == []


def test_tokens_are_refused_as_settings_for_everybody(lab: Lab) -> None:
    run = lab.run("deploy/client.yml", "--extra-vars", '{"fedcloud_client_settings": {"vault_token": "s.secret"}}')
    assert run.returncode != 0
    assert "every user of the VM can read them" in run.text
    assert "s.secret" not in run.text


# --- with an access token -------------------------------------------------------------------------------------------------


def test_put_get_list_delete(ada: Account, signed_in: dict[str, str]) -> None:
    ada.run("fedcloud secret put app/db user=ada password='a b=c'; fedcloud secret put app/other k=v", signed_in)
    assert ada.run("fedcloud secret get app/db password", signed_in) == "a b=c"
    assert ada.run("fedcloud secret list app", signed_in).split() == ["db", "other"]
    ada.run("fedcloud secret delete app/db", signed_in)
    assert ada.run("fedcloud secret list app", signed_in).split() == ["other"]
    assert ada.try_run("fedcloud secret get app/db", signed_in).code == 1


def test_what_is_put_again_is_replaced(ada: Account, signed_in: dict[str, str]) -> None:
    ada.run("fedcloud secret put again k=1 old=x; fedcloud secret put again k=2", signed_in)
    assert json.loads(ada.run("fedcloud secret get again -f json", signed_in)) == {"k": "2"}


@pytest.mark.parametrize(
    "put",
    [
        "fedcloud secret put forms @both.json",
        "fedcloud secret put forms @both.yaml",
        "fedcloud secret put forms - < both.yaml",
        "fedcloud secret put forms user=@user password=- < password",
    ],
)
def test_secrets_from_files_and_standard_input(ada: Account, signed_in: dict[str, str], put: str) -> None:
    files = """
        printf '{"user": "ada", "password": "p\\\\u00e4ss"}' > both.json
        printf 'user: ada\\npassword: päss\\n' > both.yaml
        printf ada > user; printf päss > password
    """
    ada.run(files + put, signed_in)
    assert json.loads(ada.run("fedcloud secret get forms -f json", signed_in)) == {"user": "ada", "password": "päss"}
    assert yaml.safe_load(ada.run("fedcloud secret get forms -f yaml", signed_in)) == {"user": "ada", "password": "päss"}


def test_a_binary_file_comes_back_as_it_was(ada: Account, signed_in: dict[str, str]) -> None:
    ada.run(
        """head -c 380000 /dev/urandom > key.p12
        fedcloud secret put binary key=@key.p12 --binary-file
        fedcloud secret get binary key --binary-file --output-file back.p12
        cmp key.p12 back.p12
        fedcloud secret get binary key --binary-file > piped.p12
        cmp key.p12 piped.p12
        test "$(stat --format %a back.p12)" = 600""",
        signed_in,
    )


def test_encrypted_values_are_read_with_the_passphrase_alone(
    lab: Lab, ada: Account, signed_in: dict[str, str], subject: str, personas: Personas
) -> None:
    ada.run("fedcloud secret put sealed password=clear --encrypt-key 'pass phrase'", signed_in)
    stored = lab.api("vault-infn", "GET", f"secrets/users/{subject}/sealed", token=personas.token("ada")).body["data"]
    assert set(stored) == {"password", "fedcloud_salt"}
    assert "clear" not in json.dumps(stored)
    assert ada.run("fedcloud secret get sealed password --decrypt-key 'pass phrase'", signed_in) == "clear"
    wrong = ada.try_run("fedcloud secret get sealed password --decrypt-key wrong", signed_in)
    assert (wrong.code, "clear" in wrong.output) == (1, False)


def test_an_error_is_one_sentence(ada: Account, signed_in: dict[str, str]) -> None:
    done = ada.try_run("fedcloud secret get nowhere", signed_in)
    assert done.output.startswith("Error: An unexpected error occurred")
    assert "Traceback" not in done.output


def test_a_token_that_is_none_is_refused(ada: Account) -> None:
    done = ada.try_run("fedcloud secret list", {"FEDCLOUD_OIDC_ACCESS_TOKEN": "eyJhbGciOiJub25lIn0.e30."})
    assert (done.code, "Cannot login to Vault via access token" in done.output) == (1, True)


def test_it_works_for_cron_and_by_the_name_that_the_documentation_gives_the_token(
    ada: Account, signed_in: dict[str, str]
) -> None:
    token = {"OIDC_ACCESS_TOKEN": signed_in["FEDCLOUD_OIDC_ACCESS_TOKEN"]}
    ada.run("/usr/local/bin/fedcloud secret put cron k=v && /usr/local/bin/fedcloud secret get cron k", token, login=False)


def test_a_users_own_settings_win(ada: Account, signed_in: dict[str, str]) -> None:
    other = "https://vault-ifca.lab.test:8200"
    show = "fedcloud config show --output-format JSON"
    assert json.loads(ada.run(show))["vault_endpoint"] == SERVICE
    assert json.loads(ada.run(show, {"FEDCLOUD_VAULT_ENDPOINT": other}))["vault_endpoint"] == other
    ada.run("fedcloud secret put elsewhere k=v", signed_in | {"FEDCLOUD_VAULT_ENDPOINT": other})
    assert ada.run("fedcloud secret get elsewhere k", signed_in) == "v"


def test_a_certificate_of_a_stranger_is_refused(lab: Lab, ada: Account, signed_in: dict[str, str]) -> None:
    address = f"https://{lab.addresses['vault-infn']}:8200"  # the certificate has no address
    done = ada.try_run("fedcloud secret list", signed_in | {"FEDCLOUD_VAULT_ENDPOINT": address})
    assert (done.code, "CERTIFICATE_VERIFY_FAILED" in done.output) == (1, True)


# --- the client without our mends ------------------------------------------------------------------------------------------


def test_an_unmended_client_and_ours_read_each_others_secrets(
    ada: Account, signed_in: dict[str, str], personas: Personas
) -> None:
    # All that it can use is a token of the service; with an access token it fails.
    assert ada.try_run(UNMENDED + "unmended secret put theirs k=v", signed_in).code == 1
    token = {"FEDCLOUD_VAULT_TOKEN": personas.token("ada")}
    ada.run(
        UNMENDED + "head -c 99 /dev/urandom > f; unmended secret put theirs k=v; unmended secret put file f=@f -b", token
    )
    assert ada.run("fedcloud secret get theirs k", signed_in) == "v"
    ada.run("fedcloud secret get file f -b > g; cmp f g", signed_in)
    ada.run("fedcloud secret put ours k=v; fedcloud secret put ours-sealed k=v -e passphrase", signed_in)
    assert ada.run(UNMENDED + "unmended secret get ours k", token) == "v"
    assert ada.run(UNMENDED + "unmended secret get ours-sealed k -d passphrase", token) == "v"


def test_what_an_unmended_client_encrypts_in_a_locker_ours_reads(ada: Account, locker: dict[str, str]) -> None:
    ada.run(UNMENDED + "unmended secret put theirs k=v --encrypt-key passphrase", locker)
    assert ada.run("fedcloud secret get theirs k --decrypt-key passphrase", locker) == "v"


# --- lockers --------------------------------------------------------------------------------------------------------------


def test_a_locker_from_its_making_to_its_end(ada: Account, locker: dict[str, str]) -> None:
    ada.run("fedcloud secret put in/it k=v; fedcloud secret put sealed k=v -e passphrase", locker)
    assert ada.run("fedcloud secret get in/it k", locker) == "v"
    assert ada.run("fedcloud secret get sealed k -d passphrase", locker) == "v"
    assert ada.run("fedcloud secret list", locker).split() == ["in/", "sealed"]
    about = json.loads(ada.run("fedcloud secret locker check -f json", locker))
    assert (about["policies"], about["num_uses"], about["renewable"]) == (["default"], 4, False)
    assert 86_000 < about["ttl"] <= 86_400
    ada.run("fedcloud secret delete in/it", locker)
    assert ada.try_run("fedcloud secret get in/it", locker).code == 1
    ada.run("fedcloud secret locker revoke", locker)
    assert ada.try_run("fedcloud secret list", locker).code == 1


def test_a_locker_takes_a_file_of_five_hundred_kilobytes(ada: Account, locker: dict[str, str]) -> None:
    ada.run(
        "head -c 375000 /dev/urandom > f; fedcloud secret put file f=@f -b; fedcloud secret get file f -b -o g; cmp f g",
        locker,
    )


def test_a_locker_lives_as_long_and_serves_as_often_as_was_asked_for(ada: Account, signed_in: dict[str, str]) -> None:
    made = ada.run("fedcloud secret locker create --ttl 100h --num-uses 2 --verbose --output-format json", signed_in)
    about = json.loads(made)
    assert (about["lease_duration"], about["num_uses"], about["token_policies"]) == (360_000, 2, ["default"])
    locker = {"FEDCLOUD_LOCKER_TOKEN": about["client_token"]}
    assert json.loads(ada.run("fedcloud secret locker check -f json", locker))["explicit_max_ttl"] == 0


def test_a_job_gets_its_secrets_with_curl_and_nothing_but_the_locker(
    ada: Account, job: Account, locker: dict[str, str]
) -> None:
    ada.run("fedcloud secret put job password=open-sesame", locker)
    token = {"TOKEN": locker["FEDCLOUD_LOCKER_TOKEN"]}
    got = job.run(f"{HEADERS}{CURL} {SERVICE}/v1/cubbyhole/job", token)
    assert json.loads(got)["data"] == {"password": "open-sesame"}
    job.run(f"{HEADERS}{CURL} --request POST {SERVICE}/v1/auth/token/revoke-self", token)
    assert job.try_run(f"{HEADERS}{CURL} {SERVICE}/v1/cubbyhole/job", token).code == 22  # HTTP error


def test_the_second_opening_of_a_single_use_locker_fails_and_leaves_its_trace(
    lab: Lab, ada: Account, job: Account, signed_in: dict[str, str]
) -> None:
    place = f"cubbyhole/once-{time.time_ns()}"
    token = ada.run("fedcloud secret locker create --num-uses 2", signed_in).strip()  # one to fill it, one to open it
    ada.run(f"fedcloud secret put {place.removeprefix('cubbyhole/')} k=v", {"FEDCLOUD_LOCKER_TOKEN": token})
    opening = f"{HEADERS}{CURL} {SERVICE}/v1/{place}"
    assert json.loads(job.run(opening, {"TOKEN": token}))["data"] == {"k": "v"}
    assert job.try_run(opening, {"TOKEN": token}).code == 22

    # As docs/client.md tells whoever writes the alert.
    entries = [entry for entry in audited(lab, place) if entry["type"] == "request"]
    last_allowed = next(entry for entry in entries if entry["auth"].get("remaining_uses") == 1)
    refused = next(entry for entry in entries if "permission denied" in entry.get("error", ""))
    assert refused["request"]["client_token"] == last_allowed["request"]["client_token"] != token
    assert refused["request"]["remote_address"] == lab.addresses["vm-job"]
    assert "accessor" not in refused["auth"]


def audited(lab: Lab, path: str) -> list[dict[str, Any]]:
    """Return the entries of the audit file about a path, from the node that did the work."""
    lines = lab.ssh(lab.active(), f"grep --fixed-strings {path} /var/log/openbao/audit.log").splitlines()
    return [json.loads(line) for line in lines]


# --- without the client ---------------------------------------------------------------------------------------------------


def test_the_plain_command_line(ada: Account, signed_in: dict[str, str], subject: str) -> None:
    """As EGI's documentation shows it, but for the token, which comes by a file instead of the list of processes."""
    session = f"""umask 077; printf %s "$FEDCLOUD_OIDC_ACCESS_TOKEN" > jwt
        export VAULT_TOKEN=$(bao write -field=token auth/jwt/login jwt=@jwt)
        home=secrets/users/{subject}
        bao kv put $home/cli k=v > /dev/null
        echo $(bao kv get -field=k $home/cli)
        bao kv list -format=json $home | grep -c '"cli"'
        bao write $home/cli k=w > /dev/null
        echo $(bao read -field=k $home/cli)
        bao kv delete $home/cli > /dev/null
        bao token revoke -self > /dev/null"""
    assert ada.run(session, signed_in).split() == ["v", "1", "w"]


def test_a_folder_of_a_vo_by_the_plain_command_line(lab: Lab, ada: Account, signed_in: dict[str, str]) -> None:
    log_in = """umask 077; printf %s "$FEDCLOUD_OIDC_ACCESS_TOKEN" > jwt
        export VAULT_TOKEN=$(bao write -field=token auth/jwt/login role=vo.access.egi.eu jwt=@jwt)
    """
    ada.run(log_in + "bao kv put secrets/vos/vo.access.egi.eu/shared k=from-ada", signed_in)
    ben = {"FEDCLOUD_OIDC_ACCESS_TOKEN": Checkin(lab).token("ben")}
    assert ada.run(log_in + "bao kv get -field=k secrets/vos/vo.access.egi.eu/shared", ben).strip() == "from-ada"


def test_curl(ada: Account, signed_in: dict[str, str], subject: str) -> None:
    session = f"""umask 077; printf '{{"jwt": "%s"}}' "$FEDCLOUD_OIDC_ACCESS_TOKEN" > login
        curl --silent --fail --data @login {SERVICE}/v1/auth/jwt/login > answer
        TOKEN=$(sed 's/.*"client_token":"\\([^"]*\\)".*/\\1/' answer)
        {HEADERS}
        printf '{{"k": "by curl"}}' | {CURL} --data @- {SERVICE}/v1/secrets/users/{subject}/curl
        {CURL} {SERVICE}/v1/secrets/users/{subject}/curl
        {CURL} --request DELETE {SERVICE}/v1/secrets/users/{subject}/curl"""
    assert json.loads(ada.run(session, signed_in))["data"] == {"k": "by curl"}


@pytest.fixture
def agent(lab: Lab, ada: Account) -> Iterator[str]:
    """What brings a shell of Ada's to her oidc-agent, which has an account `egi` by the device flow."""
    ada.run(f"rm -rf {AGENT_FILES}; oidc-agent > agent; umask 077; head -c 18 /dev/urandom | base64 > encryption")
    attach = ". ./agent > /dev/null; "
    generate = (
        f"oidc-gen --manual --issuer {ISSUER} --client-id fedcloud-cli --client-secret '' --scope '{SCOPES}' "
        "--port 43985 --flow device --no-url-call --confirm-default --pw-file=encryption egi"
    )
    ada.run(f'{attach} setsid --fork timeout 60 sh -c "{generate}; echo \\"ended: \\$?\\"" > generated 2>&1')
    device = wait_for_text(ada, r"(https://\S+/device)\s+And enter the code: (\S+)")
    Checkin(lab).authorize(f"{device[1]}?user_code={device[2]}", "ada")
    wait_for_text(ada, r"ended: 0")
    try:
        yield attach
    finally:
        ada.run(f"{attach} oidc-agent --kill > /dev/null; rm -rf {AGENT_FILES}")


def wait_for_text(ada: Account, pattern: str) -> re.Match[str]:
    """Wait until oidc-gen has printed something."""
    found: list[re.Match[str]] = []

    def printed() -> bool:
        found[:] = [match for match in [re.search(pattern, ada.try_run("cat generated").output)] if match]
        return bool(found)

    wait_for(printed, 20, f"oidc-gen to print {pattern}")
    return found[0]


def test_oidc_agent_gets_the_token(ada: Account, agent: str) -> None:
    """The client asks the agent for the account `egi` unless it is told another, as EGI's users have it."""
    ada.run(agent + "fedcloud secret put by-agent k=v")
    assert ada.run(agent + "fedcloud secret get by-agent k") == "v"
    locker = ada.run(agent + "fedcloud secret locker create").strip()
    ada.run("fedcloud secret put in-locker k=v", {"FEDCLOUD_LOCKER_TOKEN": locker})


def test_no_token_is_saved_by_the_client(ada: Account, agent: str, locker: dict[str, str]) -> None:
    ada.run(agent + "fedcloud token check --oidc-agent-account egi", locker)
    token = locker["FEDCLOUD_LOCKER_TOKEN"]
    assert ada.run("cat .config/fedcloud/config.yaml .config/fedcloud/logs/*").count(token) == 0
