"""A server whose configuration a test brings to a declaration, with an identity provider that is a key pair."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from ansible.module_utils.egi_secrets import products
from ansible.module_utils.egi_secrets.api import Secret
from ansible.module_utils.egi_secrets.errors import RefusedError
from ansible.module_utils.egi_secrets.reconcile.server import Server as Client
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.integration.modules import Result, run_module
from tests.integration.servers import Cluster

ISSUER = "https://provider.test"
OPERATOR = "operator@egi.eu"


class Provider:
    """Signs access tokens; the server is given its public key, so nothing has to be reached."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.public_key = (
            self._key.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )

    def token(self, subject: str, **claims: Any) -> str:
        now = int(time.time())
        content = {"iss": ISSUER, "sub": subject, "azp": "cli", "iat": now, "exp": now + 300, **claims}
        return jwt.encode(content, self._key, algorithm="ES256")


def declared(provider: Provider, **changes: Any) -> dict[str, Any]:
    """Return a declaration with one of each kind of object."""
    bound = {"role_type": "jwt", "user_claim": "sub", "bound_claims": {"azp": ["cli"]}, "token_ttl": "1h"}
    operators = {**bound, "bound_claims": {"azp": ["cli"], "sub": [OPERATOR]}}
    base: dict[str, Any] = {
        "mounts": [
            {"path": "secrets", "type": "kv", "description": "Secrets", "options": {"version": "1"}},
            {"path": "operations", "type": "kv", "options": {"version": "2"}, "access": True},
        ],
        "auth": [
            {
                "path": "jwt",
                "type": "jwt",
                "settings": {
                    "jwt_validation_pubkeys": [provider.public_key],
                    "bound_issuer": ISSUER,
                    "default_role": "personal",
                },
                "access": True,
            },
            {"path": "approle", "type": "approle", "tune": {"max_lease_ttl": "2h"}},
        ],
        "policies": [
            {"name": "default", "file": "default.hcl"},
            {"name": "personal", "file": "personal.hcl"},
            {"name": "operator", "file": "operator.hcl", "access": True, "variables": products.OPENBAO.operator_api},
            {"name": "configurator", "file": "configurator.hcl", "access": True},
        ],
        "roles": [
            {"auth": "jwt", "name": "personal", "settings": {**bound, "token_policies": ["personal"]}},
            {"auth": "jwt", "name": "operator", "settings": {**operators, "token_policies": ["operator"]}, "access": True},
            {
                "auth": "jwt",
                "name": "configurator",
                "settings": {**operators, "token_policies": ["configurator"]},
                "access": True,
            },
            {"auth": "approle", "name": "backup", "settings": {"token_ttl": "20m", "token_bound_cidrs": ["127.0.0.1/32"]}},
        ],
        "groups": [{"name": "people", "policies": ["personal"], "auth": "jwt", "alias": "urn:people"}],
        "quotas": [{"name": "logins", "settings": {"path": "auth/jwt/login", "rate": 500}}],
        "vos": [
            {"name": "vo.one", "entitlement": "urn:one"},
            {"name": "vo.two", "entitlement": "urn:two", "members": "read", "writers": ["urn:two:writer"]},
        ],
        "vo_template": {
            "folder": "secrets/vos",
            "cli_auth": "jwt",
            "web_auth": "jwt",
            "claim": "entitlements",
            "read_policy": "vo-read.hcl",
            "write_policy": "vo-write.hcl",
            "role_policies": ["personal"],
            "role_settings": bound,
        },
    }
    return {**base, **changes}


@dataclass
class Configured:
    """A server that is unsealed, and nothing else.

    Attributes:
        cluster: its process.
        provider: signs access tokens.
        policy_dir: the project's own policies; a test that changes one makes a copy.
    """

    cluster: Cluster
    provider: Provider
    policy_dir: Path
    root: str = field(default="", repr=False)

    @classmethod
    def start(cls, cluster: Cluster, policy_dir: Path) -> Configured:
        cluster.start()
        server = cluster.servers[0]
        made = cls(cluster, Provider(), policy_dir)
        client = made.client("none yet")
        answer = client.write("sys/init", {"secret_shares": 1, "secret_threshold": 1})
        made.root = answer["root_token"]
        client.write("sys/unseal", {"key": answer["keys"][0]})
        deadline = time.monotonic() + 15
        while not made._leads(client):
            assert time.monotonic() < deadline, server.journal()
            time.sleep(0.05)
        return made

    @staticmethod
    def _leads(client: Client) -> bool:
        try:
            return bool(client.request("GET", "sys/health"))
        except RefusedError:
            return False

    @property
    def operator_token(self) -> str:
        """An operator's access token."""
        return self.provider.token(OPERATOR)

    def client(self, token: str = "") -> Client:
        """Return a client that acts with a token, root's where none is given."""
        server = self.cluster.servers[0]
        client = Client(server.node, str(self.cluster.ca_file), 5.0, 4)
        client.act_with(Secret(token or self.root))
        return client

    def log_in(self, role: str, subject: str = OPERATOR, **claims: Any) -> Client:
        """Return a client that acts as somebody who logged in with a role."""
        answer = self.client().write("auth/jwt/login", {"jwt": self.provider.token(subject, **claims), "role": role})
        return self.client(answer["auth"]["client_token"])

    def run(self, declaration: dict[str, Any] | None = None, *, check_mode: bool = False, **arguments: Any) -> Result:
        """Run the module, as root unless `jwt` or `token` say otherwise."""
        given: dict[str, Any] = {
            "nodes": self.cluster.arguments,
            "ca_file": str(self.cluster.ca_file),
            "token": "" if "jwt" in arguments else self.root,
            "login_role": "configurator",
            "declared": declaration or declared(self.provider),
            "policy_dir": str(self.policy_dir),
            "prove": {"jwt": self.operator_token, "login_roles": ["operator", "configurator"]},
        }
        return run_module("vault_config", check_mode=check_mode, **{**given, **arguments})
