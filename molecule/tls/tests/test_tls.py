"""Certificates are renewed and another CA comes in, while users work and checkers watch."""

from __future__ import annotations

import datetime as dt
import json
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from checkin import Checkin
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from lab import NODES, Lab, Run
from load import Load, assert_served

from tests.odd_keys import unreadable_key

ROTATE = "operate/rotate-tls.yml"
NAME = "vault.services.lab.test"
PORTS = (8200, 443)
# What a user's VM trusts by its system: in one file, as the EGI client has it, and by a link a CA, as OpenSSL has it.
AS_A_USER = f"""python3 -c '
import ssl, urllib.request as web
for trust in (ssl.create_default_context(cafile="/etc/ssl/certs/ca-certificates.crt"), ssl.create_default_context()):
    print(web.urlopen("https://{NAME}:8200/v1/sys/health?standbyok=true", context=trust, timeout=10).status)
'"""


def alice(lab: Lab) -> str:
    """Return a token that is fresh: these plays take a while."""
    return Checkin(lab).token("alice")


@pytest.fixture(scope="module", autouse=True)
def service(lab: Lab) -> None:
    """The service, configured, with its checkers; the user's VM is brought its CA."""
    lab.play(*NODES, jwt=alice(lab))
    lab.play("deploy/failover.yml", jwt=alice(lab))
    rotated(lab)


def rotated(lab: Lab, *arguments: str) -> Run:
    lab.__dict__.pop("trust", None)  # what this test trusts is the inventory's, too
    return lab.play(ROTATE, *arguments, jwt=alice(lab))


def refused(lab: Lab, *, jwt: str = "", **variables: object) -> str:
    run = lab.run(ROTATE, "-e", json.dumps(variables), jwt=jwt or alice(lab))
    assert run.returncode != 0, run.output[-3000:]
    assert run.changes == []
    return run.text


def new_certificates(lab: Lab, only: str) -> None:
    lab.play("lab/certificates.yml", "-e", f"only={only}")


def authorities(lab: Lab) -> list[str]:
    """Return what the inventory's CA file holds, in PEM."""
    text = (lab.state / "ca/ca.crt").read_text()
    return re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n", text, re.DOTALL)


def certificate(lab: Lab, node: str) -> x509.Certificate:
    """Return what the inventory has for a node."""
    return x509.load_pem_x509_certificate((lab.state / "tls" / f"{node}.crt").read_bytes())


def served(lab: Lab) -> dict[str, set[int]]:
    """Return the serial numbers that each node serves, on every port and under every name."""
    return {
        node: {
            x509.load_pem_x509_certificate(ssl.get_server_certificate((lab.addresses[node], port)).encode()).serial_number
            for port in PORTS
        }
        for node in lab.nodes
    }


def wanted(lab: Lab) -> dict[str, set[int]]:
    return {node: {certificate(lab, node).serial_number} for node in lab.nodes}


def started(lab: Lab) -> list[str]:
    return [lab.ssh(node, "systemctl show --property MainPID --value openbao").strip() for node in lab.nodes]


def sees(lab: Lab) -> dict[str, list[bool]]:
    """Return what the checker at INFN makes of each site, name by name."""
    report = json.loads(lab.ssh("vault-infn", "runuser -u endpoint-failover -- endpoint-failover status --json"))
    return {site: [each["serving"] for each in told["names"].values()] for site, told in report["sites"].items()}


@contextmanager
def a_pair_that_the_server_cannot_read(lab: Lab, node: str) -> Iterator[None]:
    """A certificate that is right in every way, of a key whose exponent is larger than the server's library takes."""
    files = [lab.state / "tls" / f"{node}.{kind}" for kind in ("crt", "key")]
    kept = [path.read_bytes() for path in files]
    like, key = certificate(lab, node), unreadable_key()
    authority = x509.load_pem_x509_certificate(authorities(lab)[0].encode())
    signer = serialization.load_pem_private_key((lab.state / "ca/ca.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    builder = (
        x509.CertificateBuilder()
        .subject_name(like.subject)
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(dt.datetime.now(dt.UTC))
        .not_valid_after(dt.datetime.now(dt.UTC) + dt.timedelta(days=90))
    )
    for kind in (x509.SubjectAlternativeName, x509.AuthorityKeyIdentifier):
        builder = builder.add_extension(like.extensions.get_extension_for_class(kind).value, critical=False)
    files[0].write_bytes(builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    yield
    for path, content in zip(files, kept, strict=True):
        path.write_bytes(content)


def test_an_unchanged_run_changes_nothing(lab: Lab) -> None:
    run = lab.play(ROTATE)  # and needs nobody's login
    assert run.changes == []
    assert "Nothing is left to do." in run.text


def test_bad_files_are_refused_before_anything_changes(lab: Lab) -> None:
    before = served(lab)
    keys = refused(lab, vault_server_tls_key_file=str(lab.state / "tls/vm.key"))
    for node in lab.nodes:
        assert f"{node}: vault_server_tls_key_file ({lab.state}/tls/vm.key) is not the key of" in keys
    names = refused(lab, vault_server_tls_certificate_file=str(lab.state / "tls/vm.crt"))
    assert "does not name vault-infn.lab.test" in names
    assert served(lab) == before


def test_site_yml_leaves_new_certificates_to_rotate_tls(lab: Lab) -> None:
    before, files = served(lab), {node: (lab.state / "tls" / f"{node}.crt").read_bytes() for node in lab.nodes}
    new_certificates(lab, "vault")
    run = lab.play("deploy/vault.yml")
    assert served(lab) == before
    for node in lab.nodes:
        assert f"{node} serves another certificate than the inventory has" in run.text
        assert lab.ssh(node, "cat /etc/openbao/tls/server.crt").encode() == files[node]


def test_certificates_are_renewed_while_users_work(lab: Lab) -> None:
    before, processes = served(lab), started(lab)
    new_certificates(lab, "vault")
    with Load(lab, keep="tls-renewal.json") as load:
        run = rotated(lab)
    assert "Renewal under the same CA" in run.text
    seen = load.assert_sound()
    assert not seen.failed_with_retry, seen
    assert_served(seen, name=6)  # nothing restarts
    assert served(lab) == wanted(lab)
    assert served(lab) != before
    assert started(lab) == processes, "a reload is no restart"
    assert lab.ssh("vault-infn", "ls -d /run/openbao-started-tls", check=False) == "", "no old key stays"


@pytest.mark.long
def test_an_older_checkout_is_refused(lab: Lab) -> None:
    files = [lab.state / "tls" / f"{node}.{kind}" for node in lab.nodes for kind in ("crt", "key")]
    older = [path.read_bytes() for path in files]
    new_certificates(lab, "vault")
    rotated(lab)
    newer = [path.read_bytes() for path in files]
    for path, content in zip(files, older, strict=True):
        path.write_bytes(content)
    text = refused(lab)
    for path, content in zip(files, newer, strict=True):
        path.write_bytes(content)
    for node in lab.nodes:
        assert f"The inventory's certificate of {node}" in text


@pytest.mark.long
def test_a_certificate_that_the_server_cannot_read_is_taken_back(lab: Lab) -> None:
    before = served(lab)
    with a_pair_that_the_server_cannot_read(lab, "vault-infn"):
        run = lab.run(ROTATE, jwt=alice(lab))
    assert run.returncode != 0
    assert "vault-infn did not serve its new certificate, and has the old one again" in run.text
    assert served(lab) == before
    assert rotated(lab).changes == []


@pytest.mark.long
@pytest.mark.parametrize("task", ["Put the pair back that was served", "Remove the old pair", "Say that it went back"])
def test_a_way_back_that_is_killed_is_gone_again(lab: Lab, task: str) -> None:
    before = served(lab)
    with a_pair_that_the_server_cannot_read(lab, "vault-infn"):
        killed = lab.kill_at(ROTATE, lambda header, _: task in header, jwt=alice(lab))
        assert killed.returncode < 0, killed.output[-3000:]
        run = lab.run(ROTATE, jwt=alice(lab))
    assert "vault-infn did not serve its new certificate, and has the old one again" in run.text
    assert served(lab) == before
    assert rotated(lab).changes == []


@pytest.mark.long
@pytest.mark.parametrize(
    "task",
    [
        "Keep what the listeners serve",
        "Write TLS files",
        "Reload, which interrupts",
        "See that users are served",
        "Assert that the cluster is whole",
    ],
)
def test_killed_and_run_again(lab: Lab, task: str) -> None:
    new_certificates(lab, "vault")
    killed = lab.kill_at(ROTATE, lambda header, _: task in header, jwt=alice(lab))
    assert killed.returncode < 0, killed.output[-3000:]
    rotated(lab)
    assert served(lab) == wanted(lab)
    assert rotated(lab).changes == []
    assert lab.ssh("vault-infn", "ls -d /run/openbao-started-tls", check=False) == ""


@pytest.mark.long
def test_no_server_is_restarted_with_a_certificate_that_was_not_tried(lab: Lab) -> None:
    new_certificates(lab, "vault")
    processes = started(lab)
    # As a run leaves it that is killed between writing the pair and the reload.
    for suffix in ("crt", "key"):
        lab.ssh(
            "vault-infn",
            f"cat > /etc/openbao/tls/server.{suffix}",
            stdin=(lab.state / f"tls/vault-infn.{suffix}").read_text(),
        )
    run = lab.run("operate/upgrade-cluster.yml", "-e", "vault_server_log_level=debug", jwt=alice(lab))
    assert run.returncode != 0
    assert "run playbooks/operate/rotate-tls.yml first" in run.text
    assert started(lab) == processes
    rotated(lab)
    assert served(lab) == wanted(lab)


def test_another_ca_takes_the_place_of_the_old_one(lab: Lab, tmp_path: Path) -> None:
    """Users that know both are served throughout, by every node and by the generic name; nobody is locked out in between."""
    processes = started(lab)
    lab.play("lab/authority.yml", "-e", "trust=both")
    new, old = authorities(lab)
    alone = tmp_path / "new.crt"
    alone.write_text(new)
    only_new = {"vault_server_tls_ca_file": str(alone), "vault_cluster_ca_file": str(alone)}

    # Certificates of a CA that nobody knows yet wait for the next run, however soon they are in the inventory.
    new_certificates(lab, "vault")
    before = served(lab)
    assert "is without CN=egi-secrets" in refused(lab, **only_new)
    with Load(lab, ca=new + old, keep="tls-ca.json") as load:
        first = rotated(lab)
        assert "Step 1 of 3, trust" in first.text
        assert "the checker on vault-ifca" in first.text
        assert served(lab) == before
        assert lab.ssh("vm", AS_A_USER).split() == ["200", "200"]

        load.mark("certificates")
        second = rotated(lab)
        assert "Step 2 of 3, certificates" in second.text
        assert served(lab) == wanted(lab)
        assert lab.ssh("vm", AS_A_USER).split() == ["200", "200"]
        assert sees(lab) == {site: [True, True] for site in ("iisas", "infn", "ifca")}

        # Check-in and the DynDNS service still have certificates of the old one.
        login = alice(lab)
        lab.play("lab/authority.yml", "-e", "trust=new")
        text = refused(lab, jwt=login)
        assert "Check-in is not accepted" in text
        assert "the DynDNS service is not accepted" in text
        (lab.state / "ca/ca.crt").write_text(new + old)
        lab.play("deploy/config.yml", jwt=alice(lab))  # logins trust both
        new_certificates(lab, "dyndns:identity_provider")
        lab.play("deploy/dyndns.yml")
        lab.play("lab/checkin.yml")

        load.mark("drop")
        lab.play("lab/authority.yml", "-e", "trust=new")
        third = rotated(lab)
        assert "Step 3 of 3, drop" in third.text
        assert lab.ssh("vm", AS_A_USER).split() == ["200", "200"]
    seen = load.assert_sound()
    assert not seen.failed_with_retry, seen
    assert_served(seen, name=6)  # nothing restarts
    assert started(lab) == processes

    lab.play("deploy/config.yml", jwt=alice(lab))
    again = rotated(lab)
    assert again.changes == []
    assert "Nothing is left to do." in again.text
    assert sees(lab) == {site: [True, True] for site in ("iisas", "infn", "ifca")}
    assert Checkin(lab).token("ada")


@pytest.mark.long
def test_a_node_that_lost_its_data_joins_by_the_new_ca(lab: Lab) -> None:
    node = next(each for each in lab.nodes if each != lab.active())
    lab.ssh(node, "systemctl stop openbao && rm -rf /var/lib/openbao/*")
    homes = json.dumps({"vault_cluster_gnupg_homes": [str(lab.state / "gpg" / name) for name in ("alice", "bob")]})
    lab.play("operate/replace-site.yml", "-e", homes, "-e", f"remove={node}", jwt=alice(lab))
    assert lab.api(node, "GET", "sys/health").status == 429
    assert rotated(lab).changes == []
