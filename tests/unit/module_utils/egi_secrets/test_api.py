from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.egi_secrets.api import Node, Secret, connect, in_parallel
from ansible.module_utils.egi_secrets.errors import PgpError, SecretsError

CERTIFICATE = "-----BEGIN CERTIFICATE-----\n"


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    (tmp_path / "ca.crt").write_text(CERTIFICATE)
    return str(tmp_path / "ca.crt")


@pytest.mark.parametrize("url", ["http://vault.test:8200", "vault.test:8200", "https://", ""])
def test_shares_go_over_tls_to_a_named_host_only(url: str) -> None:
    with pytest.raises(SecretsError, match="verified TLS only"):
        Node("n1", url)


@pytest.mark.parametrize(
    ("address", "connect_url"),
    [
        ("", "https://vault.test:8200"),
        ("192.0.2.1", "https://192.0.2.1:8200"),
        ("2001:db8::1", "https://[2001:db8::1]:8200"),
    ],
)
def test_the_address_to_connect_to_replaces_the_name_alone(address: str, connect_url: str) -> None:
    node = Node("n1", "https://vault.test:8200", address)
    assert (node.host, node.port, node.connect_url) == ("vault.test", 8200, connect_url)


def test_nodes_are_named_and_addressed_once(ca_file: str) -> None:
    with pytest.raises(SecretsError, match="list of nodes is empty"):
        connect([], ca_file, 5)
    with pytest.raises(SecretsError, match="Several nodes have the name n1"):
        connect([Node("n1", "https://a.test:8200"), Node("n1", "https://b.test:8200")], ca_file, 5)
    with pytest.raises(SecretsError, match="Several nodes have the connect_url"):
        connect([Node("n1", "https://a.test:8200"), Node("n2", "https://a.test:8200")], ca_file, 5)


def test_a_ca_file_without_a_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    for file, reason in (("empty", "holds no PEM certificate"), ("missing", "No such file")):
        with pytest.raises(SecretsError, match=reason):
            connect([Node("n1", "https://a.test:8200")], str(tmp_path / file), 5)


def test_nothing_of_the_shell_reaches_a_request(ca_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "from the shell")
    monkeypatch.setenv("VAULT_ADDR", "https://elsewhere.test")
    (api,) = connect([Node("n1", "https://a.test:8200")], ca_file, 5)
    client = api._client
    assert client.token == ""
    assert client.url == "https://a.test:8200"
    assert client.session.trust_env is False
    assert client.session.verify == ca_file


def test_results_keep_their_order_and_errors_their_place() -> None:
    def halve(number: int) -> int:
        if number % 2:
            raise PgpError(f"{number} is odd")
        return number // 2

    four, odd, eight = in_parallel([4, 5, 8], halve)
    assert (four, str(odd), eight) == (2, "5 is odd", 4)
    assert in_parallel([], halve) == []


def test_a_secret_shows_itself_only_when_asked() -> None:
    assert Secret("hush").reveal() == "hush"
