"""What can go wrong, each said in a sentence that names the remedy.

No message ever holds a share, a token or what gpg decrypted.
"""

from __future__ import annotations


class SecretsError(Exception):
    """Base of every error of this package; `str(error)` is a sentence for the operator."""


class NodeError(SecretsError):
    """A node did not do what it was asked."""

    def __init__(self, node: str, sentence: str) -> None:
        super().__init__(sentence)
        self.node = node


class UnreachableError(NodeError):
    """No connection to the node, or no answer in time."""


class TlsError(NodeError):
    """The node's certificate was not accepted."""


class RefusedError(NodeError):
    """The node answered with an HTTP error; `status` is its code, `reasons` the server's own words."""

    def __init__(self, node: str, status: int, reasons: list[str], sentence: str) -> None:
        super().__init__(node, sentence)
        self.status = status
        self.reasons = reasons

    @property
    def redirected(self) -> bool:
        """Whether a node that does not lead names the one that does, having no connection to it yet: nothing was done."""
        return 300 <= self.status < 400  # noqa: PLR2004


class PgpError(SecretsError):
    """GnuPG could not do what it was asked, or a key is not usable."""


class BundleError(SecretsError):
    """An unseal bundle is missing, malformed, or differs from another copy of it."""


class CeremonyError(SecretsError):
    """A step of the key ceremony is refused because it would lose or mix up keys."""


class BundleNotWrittenError(CeremonyError):
    """The cluster is initialised and its bundle could not be written: `content` is then the only copy.

    The content is PGP ciphertext throughout, so it may be shown.
    """

    def __init__(self, content: str, sentence: str) -> None:
        super().__init__(sentence)
        self.content = content


class DeclarationError(SecretsError):
    """What the inventory declares is not sound; the message has a sentence for each thing that is wrong."""


class ReconcileError(SecretsError):
    """The configuration cannot be brought to what is declared; the message says what stands and what to do."""


class NoLeaderError(SecretsError):
    """No node that answers is active, so nothing can be changed in the cluster."""


class HoldError(SecretsError):
    """A site cannot be held, or released, as it is asked."""


class LeadershipError(SecretsError):
    """Leadership did not move as it was asked to."""


class LockedError(SecretsError):
    """Another run is changing the service."""


class MembershipError(SecretsError):
    """Who is a member of Raft cannot be changed as it is asked."""
