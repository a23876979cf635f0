"""What a service logs in with: the id of its AppRole, and a secret id for each host that runs it.

Which secret ids exist is told by their accessors, which are no secrets: a host keeps its own beside the secret id. So it is
known without a login whether what a host holds is still valid, and what nobody holds (a run was killed between making a
secret id and storing it, a host was rebuilt) is taken back.

Source of the calls: https://openbao.org/api-docs/auth/approle/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..api import Secret
from ..errors import ReconcileError
from ..reconcile.server import Server


@dataclass(frozen=True)
class Identity:
    """What one host is given.

    Attributes:
        secret_id: what it logs in with, together with the role's id.
        accessor: what the secret id is known by.
    """

    secret_id: Secret
    accessor: str


@dataclass(frozen=True)
class Identities:
    """What came of it.

    Attributes:
        role_id: id of the AppRole.
        issued: new identities, by host.
        missing: hosts that lack a valid one, in check mode too.
        revoked: accessors that no host holds, taken back.
    """

    role_id: str
    issued: Mapping[str, Identity] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    revoked: tuple[str, ...] = ()


def bring(server: Server, service: str, held: Mapping[str, str], *, complete: bool, check_mode: bool) -> Identities:
    """Give an identity to each host that lacks a valid one, and take back what no host holds.

    Args:
        server: the API, acting as a configurator.
        service: name of the AppRole.
        held: host → accessor of the secret id that it holds; empty: none.
        complete: whether `held` names every host of the service. Otherwise nothing is taken back.
        check_mode: change nothing.

    Raises:
        ReconcileError: there is no such AppRole.
    """
    role = f"auth/approle/role/{service}"
    found = server.read(f"{role}/role-id")
    if found is None:
        raise ReconcileError(
            f"The cluster has no AppRole {service}: declare it in vault_config_services, and run playbooks/site.yml."
        )
    known = set(server.names(f"{role}/secret-id"))
    missing = tuple(host for host, accessor in held.items() if accessor not in known)
    stray = tuple(sorted(known - set(held.values()))) if complete else ()
    issued: dict[str, Identity] = {}
    if not check_mode:
        for accessor in stray:
            server.write(f"{role}/secret-id-accessor/destroy", {"secret_id_accessor": accessor})
        for host in missing:
            made = server.write(f"{role}/secret-id", {})["data"]
            issued[host] = Identity(Secret(str(made["secret_id"])), str(made["secret_id_accessor"]))
    return Identities(str(found["role_id"]), issued, missing, stray)
