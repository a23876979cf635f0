"""The first root token: encrypted to one operator, decrypted in memory only, revoked once it has handed over."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from pathlib import Path

from . import bundle as bundles
from .api import Api, Secret
from .bundle import Bundle
from .cluster import active_node
from .errors import BundleError, CeremonyError
from .pgp import Keyrings


@dataclass
class Outcome:
    """What happened: whether anything changed (or would), the bundle as it is now, and sentences."""

    changed: bool
    bundle: Bundle
    messages: list[str] = field(default_factory=list)


def state(bundle: Bundle) -> dict[str, object]:
    """Return what modules tell of the first root token."""
    token = bundle.root_token
    return {
        "operator": token.operator,
        "fingerprint": token.fingerprint,
        "state": "revoked" if token.revoked_at else "valid",
        "revoked_at": token.revoked_at,
    }


def decrypt(bundle: Bundle, homes: list[str]) -> Secret:
    """Return the first root token.

    Args:
        bundle: the cluster's unseal bundle.
        homes: GnuPG homes with the secret keys at hand, "" for the operator's own.

    Raises:
        CeremonyError: the secret key that it is encrypted to is not at hand.
        PgpError: gpg could not decrypt it.
    """
    token = bundle.root_token
    keyrings = Keyrings.open(homes)
    if not keyrings.holds(token.fingerprint):
        raise CeremonyError(
            f"The first root token is encrypted to {token.operator} ({token.fingerprint}), whose secret key is in no "
            f"keyring at hand: let {token.operator} run this, or name its home in vault_cluster_gnupg_homes."
        )
    return keyrings.decrypt(token.ciphertext, token.fingerprint, "the first root token")


def revoke(apis: list[Api], bundle: Bundle, bundle_file: str, homes: list[str], *, check_mode: bool) -> Outcome:
    """Revoke the first root token, prove that it is gone, and mark the controller's bundle.

    Killed anywhere, the next run goes on: a token that the server no longer knows is marked as revoked.

    Args:
        apis: all members of the inventory.
        bundle: the cluster's unseal bundle.
        bundle_file: where the controller keeps it.
        homes: GnuPG homes with the secret keys at hand.
        check_mode: revoke and decrypt nothing.

    Returns:
        What was done; the bundle is to be distributed to the nodes again.

    Raises:
        NoLeaderError: no active node.
        CeremonyError: not the operator's keyring, not a root token, or still valid after revocation.
        BundleError, PgpError, NodeError: as in the steps.
    """
    path = Path(bundle_file).expanduser()
    if bundle.root_token.revoked_at:
        return Outcome(False, bundle, [f"The first root token was revoked on {bundle.root_token.revoked_at}."])
    if check_mode:
        return Outcome(True, bundle, ["The first root token would be revoked."])
    api, _ = active_node(apis)
    _refuse_other_keys(api, bundle)
    token = decrypt(bundle, homes)
    bundles.prepare_directory(path)
    policies = api.token_policies(token)
    message = "The first root token is revoked, and the server no longer accepts it."
    if policies is None:
        message = "The server does not know the first root token any more: it had been revoked; the bundle says so now."
    elif policies != ["root"]:
        raise CeremonyError(
            f"The token in the bundle is no root token (its policies are {', '.join(policies)}): the bundle is not "
            "what sys/init gave; it was not revoked. Compare the bundle with the copies on the nodes."
        )
    else:
        api.revoke_token(token)
        if api.token_policies(token) is not None:
            raise CeremonyError(
                f"{api.node.name} still accepts the first root token after its revocation: run this again, and look at "
                "that server's journal when it stays so."
            )
    marked = bundles.mark_revoked(bundle, f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}")
    try:
        bundles.write(path, marked.render())
    except OSError as error:
        raise BundleError(
            f"The first root token is revoked and {path} could not be marked ({error.strerror}): make it writable and "
            "run again."
        ) from None
    return Outcome(True, marked, [message])


def _refuse_other_keys(api: Api, bundle: Bundle) -> None:
    status = api.seal_status()
    if (status.threshold, status.shares) not in bundle.known_numbers():
        raise CeremonyError(
            f"{api.node.name} is unsealed by {status.threshold} of {status.shares} shares and the bundle has "
            f"{bundle.threshold} of {len(bundle.shares)}: it is another cluster's, or from before a rekey; nothing was "
            "revoked."
        )
