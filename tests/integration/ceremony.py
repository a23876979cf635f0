"""A key ceremony as a test plays it: the modules with the arguments of one cluster, and its keys for comparison."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils.egi_secrets.api import Api, Secret
from ansible.module_utils.egi_secrets.reconcile.server import Server as Client

from tests.integration.modules import Result, run_module
from tests.integration.servers import Cluster, Server, wait_for
from tests.pgp_homes import PgpHome

OPERATORS = ("alice", "bob", "carol")


@dataclass
class Ceremony:
    cluster: Cluster
    people: dict[str, PgpHome]
    controller: Path
    outputs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        keys = self.controller.parent / "keys"
        keys.mkdir(exist_ok=True)
        self.operators = [
            {"name": name, "pgp_key_file": str(home.export(keys / f"{name}.asc")), "shares": 1}
            for name, home in self.people.items()
        ]

    @property
    def bundle_file(self) -> Path:
        return self.controller / "unseal-bundle.json"

    @property
    def bundle(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.bundle_file.read_text())
        return content

    def homes(self, *names: str) -> list[str]:
        return [str(self.people[name].path) for name in names]

    def run(self, module: str, *, family: str = "vault_cluster", **arguments: Any) -> Result:
        given: dict[str, Any] = {
            "nodes": self.cluster.arguments,
            "ca_file": str(self.cluster.ca_file),
            "timeout": 3.0,
            **arguments,
        }
        result = run_module(f"{family}_{module}", **given)
        self.outputs.append(result.output)
        return result

    def preflight(self, **arguments: Any) -> Result:
        return self.run("preflight", **{"operators": self.operators, "threshold": 2, **arguments})

    @property
    def init_arguments(self) -> dict[str, Any]:
        return {
            "operators": self.operators,
            "threshold": 2,
            "root_token_operator": "alice",
            "cluster_name": "test",
            "bundle_file": str(self.bundle_file),
        }

    def init(self, **arguments: Any) -> Result:
        return self.run("init", **{**self.init_arguments, **arguments})

    def unseal(self, *names: str, **arguments: Any) -> Result:
        return self.run("unseal", **{"bundle_file": str(self.bundle_file), "gnupg_homes": self.homes(*names), **arguments})

    def revoke_root(self, *names: str, **arguments: Any) -> Result:
        return self.run("revoke_root", bundle_file=str(self.bundle_file), gnupg_homes=self.homes(*names), **arguments)

    def stand_up(self) -> None:
        self.init().succeeded()
        self.unseal("alice", "bob").succeeded()

    def await_voters(self, seconds: float = 60) -> None:
        """Wait until every member votes: only a voter can take over, and who just joined votes ten seconds later."""
        client = self.client(self.cluster.servers[0])

        def members() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = (client.read("sys/storage/raft/configuration") or {})["config"]["servers"]
            return found

        def all_vote() -> bool:
            return {each["node_id"] for each in members() if each["voter"]} == {each.name for each in self.cluster.servers}

        wait_for(all_vote, seconds, lambda: f"members: {members()}\n{self.cluster.journals()}")

    def client(self, server: Server, token: Secret | None = None) -> Client:
        """Act with a token; by default with the first root token, for as long as the bundle has it."""
        client = Client(server.node, str(self.cluster.ca_file), 5.0, 1)
        client.act_with(token or self.root_token())
        return client

    def api(self, server: Server) -> Api:
        return Api(server.node, str(self.cluster.ca_file), 5.0)

    def clear_share(self, number: int) -> Secret:
        share = self.bundle["shares"][number - 1]
        return self._decrypt(share["operator"], share["message"])

    def root_token(self) -> Secret:
        token = self.bundle["root_token"]
        return self._decrypt(token["operator"], token["message"])

    def _decrypt(self, operator: str, message: str) -> Secret:
        return Secret(self.people[operator].gpg("--decrypt", stdin=base64.b64decode(message)).decode().strip())

    @property
    def share_of_nobody(self) -> Secret:
        """A share that the server takes for one: its last byte, where it lies on the curve, is none of the operators'."""
        taken = {bytes.fromhex(self.clear_share(number + 1).reveal())[-1] for number in range(len(self.bundle["shares"]))}
        free = next(point for point in range(1, 256) if point not in taken)
        return Secret((b"\x5a" * 32 + bytes([free])).hex())

    def strangers_share(self, server: Server) -> None:
        """Send a share of nobody's, as anyone who reaches the node may."""
        status = self.api(server).submit_share(self.share_of_nobody, 5.0)
        assert status.progress >= 1
