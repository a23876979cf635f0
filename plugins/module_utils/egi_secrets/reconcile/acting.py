"""As whom a run acts: with a token, as an operator who logs in for it, or once, at the very start, with the root token."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from .. import root_token
from ..api import Secret
from ..bundle import Bundle
from ..errors import ReconcileError, RefusedError, SecretsError, UnreachableError
from ..raft import ELECTION
from .proof import log_in
from .server import FORBIDDEN, SERVER_ERROR, Server

_PAUSE = 0.2

Result = TypeVar("Result")


class RootGoneError(ReconcileError):
    """The server does not know the first root token any more, which the bundle calls valid."""


@dataclass(frozen=True)
class Credentials:
    """What is at the keyboard; the first that is there counts.

    Attributes:
        token: a token of the service, or empty.
        jwt: an operator's access token, or empty.
        login_path: path of the auth method that takes it.
        login_role: role to log in with.
        bundle: the unseal bundle with the first root token, or None.
        gnupg_homes: GnuPG homes that may decrypt it, "" for the operator's own.
    """

    token: Secret
    jwt: Secret
    login_path: str
    login_role: str
    bundle: Bundle | None
    gnupg_homes: Sequence[str]


@contextmanager
def acting(server: Server, credentials: Credentials) -> Iterator[str]:
    """Have `server` act with the credentials, and revoke afterwards what was got for this run alone.

    Yields:
        As whom, for people to read.

    Raises:
        RootGoneError: it is the root token, and it has been revoked.
        ReconcileError: there are none, or the login was refused.
        SecretsError: the root token cannot be decrypted.
    """
    if credentials.token.reveal():
        server.act_with(credentials.token)
        yield "the given token"
    elif credentials.jwt.reveal():
        token = _log_in(server, credentials)
        server.act_with(token)
        try:
            yield f"role {credentials.login_role}"
        except BaseException:
            with suppress(SecretsError):  # what went wrong first is what counts
                server.request("POST", "auth/token/revoke-self", token=token)
            raise
        _log_out(server, token)
    elif credentials.bundle is not None:
        if credentials.bundle.root_token.revoked_at:
            raise ReconcileError(
                f"The first root token was revoked on {credentials.bundle.root_token.revoked_at}: act as an operator, with "
                "OIDC_ACCESS_TOKEN in the environment."
            )
        server.act_with(root_token.decrypt(credentials.bundle, list(credentials.gnupg_homes)))
        _refuse_what_is_gone(server)
        yield "the first root token"
    else:
        raise ReconcileError("Nobody is at the keyboard: export OIDC_ACCESS_TOKEN as an operator, or VAULT_TOKEN.")


def _refuse_what_is_gone(server: Server) -> None:
    try:
        server.request("GET", "auth/token/lookup-self")
    except RefusedError as error:
        if error.status != FORBIDDEN:
            raise
        raise RootGoneError(
            "The server does not know the first root token any more, and the bundle calls it valid: the run that revoked it "
            "was cut off. Operators log in as themselves."
        ) from None


def _log_out(server: Server, token: Secret) -> None:
    """Revoke a login's token, which is as well done twice."""

    def may_pass(error: SecretsError) -> bool:
        if isinstance(error, RefusedError):
            return error.redirected or error.status >= SERVER_ERROR
        return isinstance(error, UnreachableError)

    _while_leadership_moves(lambda: server.request("POST", "auth/token/revoke-self", token=token), may_pass)


def _log_in(server: Server, credentials: Credentials) -> Secret:
    try:
        return _while_leadership_moves(
            lambda: log_in(server, credentials.jwt, credentials.login_path, credentials.login_role)[0],
            lambda error: isinstance(error, RefusedError) and error.redirected,
        )
    except RefusedError as error:
        if error.redirected:
            raise
        raise ReconcileError(
            f"The login at auth/{credentials.login_path} with role {credentials.login_role} was refused: HTTP "
            f"{error.status}, {'; '.join(error.reasons) or 'without a reason'}. Is OIDC_ACCESS_TOKEN a fresh token of one "
            "of vault_config_operators?"
        ) from None


def _while_leadership_moves(call: Callable[[], Result], may_pass: Callable[[SecretsError], bool]) -> Result:
    """Call again and again, for as long as an election may take, where an error may pass.

    Right after leadership has moved a node may not know who leads, or have no connection there yet.
    """
    deadline = time.monotonic() + ELECTION
    while True:
        try:
            return call()
        except SecretsError as error:
            if not may_pass(error) or time.monotonic() >= deadline:
                raise
        time.sleep(_PAUSE)
