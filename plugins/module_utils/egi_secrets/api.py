"""The few calls of the server's HTTP API that the key ceremony needs, over hvac.

One `Api` a node. A node may be reached at another address than its name resolves to (`Node.connect_address`, as with
`curl --resolve`): TLS is verified against the name in the URL all the same. Nothing is taken from the environment:
`REQUESTS_CA_BUNDLE`, proxies and `VAULT_*` of the operator's shell have no say in where a share goes.

Source of the calls: https://openbao.org/api-docs/system/ (the same in HashiCorp Vault).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

try:
    import hvac
    import requests
    from hvac.adapters import RawAdapter
    from requests.adapters import HTTPAdapter
except ImportError as missing:
    raise ImportError(
        f"{missing}. This module runs on the controller with the project's virtual environment: start playbooks "
        "through `make`, or set ansible_python_interpreter to '{{ ansible_playbook_python }}' for localhost."
    ) from missing

from .errors import NodeError, RefusedError, SecretsError, TlsError, UnreachableError

# sys/init bootstraps Raft before it answers (2 s here); its answer exists only once, so it is worth waiting for.
INIT_TIMEOUT = 60.0

_HTTP_OK = 200
_HTTP_REDIRECT = 300

Item = TypeVar("Item")
Result = TypeVar("Result")


class Secret:
    """A value that no traceback, log or representation shows."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value in clear, for the one request that carries it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(...)"


@dataclass(frozen=True)
class Node:
    """A member of the cluster as the inventory has it.

    Args:
        name: inventory name.
        url: address of the API, `https://<fqdn>:<port>`; the name that the certificate must carry.
        connect_address: IP address to connect to instead of what the name resolves to; empty: resolve the name.
    """

    name: str
    url: str
    connect_address: str = ""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme != "https" or not parts.hostname:
            raise SecretsError(
                f"Node {self.name} has url {self.url!r}, which is no https://<fqdn>:<port>: shares and tokens are sent "
                "over verified TLS only; correct vault_api_address."
            )

    @property
    def host(self) -> str:
        """The DNS name in the URL."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The TCP port in the URL, 443 where it names none."""
        return urlsplit(self.url).port or 443

    @property
    def connect_url(self) -> str:
        """The API's URL by the address that is really connected to."""
        return f"https://{_bracketed(self.connect_address or self.host)}:{self.port}"


@dataclass(frozen=True)
class SealStatus:
    """Answer of sys/seal-status, and of sys/unseal.

    Args:
        initialized: false too for a node that has not joined its cluster yet.
        sealed: whether shares are still needed.
        threshold: shares needed in all; 0 when not initialised.
        shares: shares that exist; 0 when not initialised.
        progress: shares received of the attempt under way.
        nonce: identity of that attempt; empty without one.
        cluster_id: told by an unsealed node only, otherwise empty.
        version: version of the server.
    """

    initialized: bool
    sealed: bool
    threshold: int
    shares: int
    progress: int
    nonce: str
    cluster_id: str
    version: str


@dataclass(frozen=True)
class Health:
    """Answer of sys/health.

    Args:
        role: active, standby, sealed or uninitialised.
        second: the server's clock, whole seconds since the epoch, rounded down.
        cluster_id: told by an unsealed node only, otherwise empty.
    """

    role: str
    second: int
    cluster_id: str


@dataclass(frozen=True)
class InitAnswer:
    """Answer of sys/init: base64 of binary PGP messages, in the order of the keys that were sent."""

    shares: list[str]
    root_token: str


class _PinnedAdapter(HTTPAdapter):
    """Connects to the node's `connect_address` while TLS and the Host header keep the name of its URL."""

    def __init__(self, node: Node) -> None:
        self._node = node
        super().__init__()

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:  # noqa: ANN401  # passed through
        super().init_poolmanager(
            connections,
            maxsize,
            block,
            server_hostname=self._node.host,
            **pool_kwargs,
        )

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:  # noqa: ANN401
        parts = urlsplit(request.url or "")
        request.headers["Host"] = parts.netloc
        request.url = parts._replace(netloc=urlsplit(self._node.connect_url).netloc).geturl()
        return super().send(request, *args, **kwargs)


class Api:
    """One node's API.

    Not to be shared by threads that run at the same time.

    Args:
        node: the node to talk to.
        ca_file: PEM file of the authority that signed the node's certificate.
        timeout: seconds to connect, and seconds to wait for each answer.

    Raises:
        SecretsError: `ca_file` cannot be read.
    """

    def __init__(self, node: Node, ca_file: str, timeout: float) -> None:
        self.node = node
        self.timeout = timeout
        self.ca_file = ca_file
        read_ca(ca_file)
        session = requests.Session()
        session.trust_env = False
        session.verify = ca_file
        session.mount("https://", _PinnedAdapter(node) if node.connect_address else HTTPAdapter())
        self._client = hvac.Client(
            url=node.url,
            token="",  # never what VAULT_TOKEN or ~/.vault-token hold
            verify=ca_file,
            timeout=timeout,
            allow_redirects=False,
            session=session,
            adapter=RawAdapter,
            ignore_exceptions=True,  # we read the status ourselves
        )

    def seal_status(self) -> SealStatus:
        """Return whether the node is initialised and sealed (GET sys/seal-status)."""
        return _seal_status(self._checked(self._client.sys.read_seal_status, "tell its seal status"))

    def health(self) -> Health:
        """Return the node's role and clock (GET sys/health, whose status code is the role)."""
        answer = self._call(lambda: self._client.sys.read_health_status(method="GET"))
        body = self._object(answer)
        if "server_time_utc" not in body:
            raise self._refused(answer, "tell its health")
        if not body.get("initialized"):
            role = "uninitialised"
        elif body.get("sealed"):
            role = "sealed"
        else:
            role = "standby" if body.get("standby") else "active"
        return Health(role=role, second=int(body["server_time_utc"]), cluster_id=str(body.get("cluster_id") or ""))

    def raft_index(self) -> int:
        """Return the Raft index up to which this node has applied entries to its disk (GET sys/leader); 0: it tells none."""
        return int(self._checked(self._client.sys.read_leader_status, "tell its Raft index").get("raft_applied_index") or 0)

    def initialise(self, share_keys: list[str], threshold: int, root_token_key: str) -> InitAnswer:
        """Initialise the cluster on this node (PUT sys/init); the answer is given only once.

        Args:
            share_keys: for each share the binary public key, base64, that it is encrypted to.
            threshold: shares needed to unseal.
            root_token_key: the same for the first root token.

        Returns:
            The encrypted shares in the order of `share_keys`, and the encrypted token.

        Raises:
            NodeError: the node refused, or its answer was lost.
        """
        body = {
            "secret_shares": len(share_keys),
            "secret_threshold": threshold,
            "pgp_keys": share_keys,
            "root_token_pgp_key": root_token_key,
        }
        # Not hvac's own method, which logs nothing but cannot be given a longer time-out.
        answer = self._checked(
            lambda: self._client.adapter.request("put", "/v1/sys/init", json=body, timeout=INIT_TIMEOUT), "initialise"
        )
        shares, token = answer.get("keys_base64"), answer.get("root_token")
        if not isinstance(shares, list) or len(shares) != len(share_keys) or not isinstance(token, str):
            raise NodeError(
                self.node.name,
                f"{self.node.name} answered sys/init without one message for each share: it is initialised and its "
                "keys are lost. Nothing was stored in it yet: stop it, empty its Raft directory, start it and run this "
                "again.",
            )
        return InitAnswer(shares=[str(share) for share in shares], root_token=token)

    def submit_share(self, share: Secret, timeout: float) -> SealStatus:
        """Send one share (PUT sys/unseal).

        Args:
            share: the share in clear.
            timeout: seconds to wait; the last share of a node that is joining is answered once it has joined.

        Raises:
            RefusedError: the share, or the set of shares that it completed, is not this cluster's key; the server has
                then forgotten the attempt.
            UnreachableError: no answer in time.
        """
        return _seal_status(
            self._checked(
                lambda: self._client.adapter.request("put", "/v1/sys/unseal", json={"key": share.reveal()}, timeout=timeout),
                "take a share",
            )
        )

    def reset_unseal(self) -> SealStatus:
        """Make the node forget the shares of the attempt under way (PUT sys/unseal, reset)."""
        return _seal_status(self._checked(lambda: self._client.sys.submit_unseal_key(reset=True), "reset its unsealing"))

    def join(self, leader: Node) -> None:
        """Have the node fetch its join challenge from `leader` now (POST sys/storage/raft/join).

        Its own retry_join does so every 2 s. A node that is a member already answers the same and is not changed.

        Raises:
            NodeError: the leader could not be reached from the node, or is sealed.
        """
        ca = read_ca(self.ca_file)
        bodies = [{"leader_api_addr": leader.url, "leader_ca_cert": ca, "retry": False}]
        if leader.connect_address:
            # Where the node cannot resolve its peer's name, the address that the controller uses may serve it as well.
            bodies.append({**bodies[0], "leader_api_addr": leader.connect_url, "leader_tls_servername": leader.host})
        for last, body in enumerate(bodies, start=1 - len(bodies)):
            try:
                self._checked(
                    lambda body=body: self._client.adapter.request("post", "/v1/sys/storage/raft/join", json=body),  # type: ignore[misc]
                    f"join {leader.name}",
                )
            except RefusedError:
                if not last:
                    raise
            else:
                return

    def token_policies(self, token: Secret) -> list[str] | None:
        """Return the policies of `token`, or None when the server knows no such token."""
        data = self.token(token)
        return None if data is None else [str(policy) for policy in data.get("policies") or []]

    def token(self, token: Secret) -> Mapping[str, Any] | None:
        """Return what the server knows of `token` (GET auth/token/lookup-self), None where it knows no such token."""
        answer = self._call(
            lambda: self._client.adapter.request("get", "/v1/auth/token/lookup-self", headers=_bearer(token))
        )
        if answer.status_code == 403:  # noqa: PLR2004
            return None
        data: Mapping[str, Any] = self._accepted(answer, "look the token up").get("data", {})
        return data

    def revoke_token(self, token: Secret) -> None:
        """Revoke `token` itself and with it its children (PUT auth/token/revoke-self)."""
        self._checked(
            lambda: self._client.adapter.request("put", "/v1/auth/token/revoke-self", headers=_bearer(token)),
            "revoke the token",
        )

    def _checked(self, call: Callable[[], requests.Response], deed: str) -> Mapping[str, Any]:
        return self._accepted(self._call(call), deed)

    def _accepted(self, answer: requests.Response, deed: str) -> Mapping[str, Any]:
        if not _HTTP_OK <= answer.status_code < _HTTP_REDIRECT:
            raise self._refused(answer, deed)
        return self._object(answer)

    def _call(self, call: Callable[[], requests.Response]) -> requests.Response:
        name, url = self.node.name, self.node.url
        at = f" at {self.node.connect_address}" if self.node.connect_address else ""
        try:
            return call()
        except requests.exceptions.SSLError as error:
            raise TlsError(name, _tls_sentence(self.node, self.ca_file, error)) from None
        except requests.exceptions.Timeout:
            raise UnreachableError(
                name,
                f"{name} ({url}{at}) did not answer in time: check that its server runs and that the controller "
                f"reaches its port {self.node.port}.",
            ) from None
        except requests.exceptions.RequestException as error:
            raise UnreachableError(
                name,
                f"{name} ({url}{at}) cannot be reached ({_cause(error)}): start its server (systemctl status on the "
                f"host), and check its name, address and firewall for port {self.node.port}.",
            ) from None

    def _object(self, answer: requests.Response) -> Mapping[str, Any]:
        if not answer.content:
            return {}
        try:
            body = answer.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise NodeError(
                self.node.name,
                f"{self.node.name} ({self.node.url}) answered HTTP {answer.status_code} with something that is no JSON "
                "object: this is no OpenBao or Vault server; correct vault_api_address or vault_connect_address.",
            )
        return body

    def _refused(self, answer: requests.Response, deed: str) -> RefusedError:
        reasons = [str(reason) for reason in self._object(answer).get("errors") or []]
        words = "; ".join(reasons) or "without a reason"
        return RefusedError(
            self.node.name,
            answer.status_code,
            reasons,
            f"{self.node.name} would not {deed}: HTTP {answer.status_code}, {words}.",
        )


def read_ca(ca_file: str) -> str:
    """Return the PEM text of the certificate authority's file.

    Raises:
        SecretsError: it cannot be read or holds no certificate.
    """
    try:
        text = Path(ca_file).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not PEM text"
        raise SecretsError(f"The CA file {ca_file} cannot be read ({reason}): correct vault_cluster_ca_file.") from None
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise SecretsError(f"The CA file {ca_file} holds no PEM certificate: correct vault_cluster_ca_file.")
    return text


def connect(nodes: Iterable[Node], ca_file: str, timeout: float) -> list[Api]:
    """Return an `Api` for each node; nothing is sent yet.

    Raises:
        SecretsError: the list is empty, names a node or address twice, or the CA file is unreadable.
    """
    apis = [Api(node, ca_file, timeout) for node in nodes]
    if not apis:
        raise SecretsError("The list of nodes is empty: inventory group `vault` must name the members of the cluster.")
    for attribute in ("name", "connect_url"):
        values = [getattr(api.node, attribute) for api in apis]
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise SecretsError(
                f"Several nodes have the {attribute} {twice[0]}: each member of group `vault` needs a name and an "
                "address of its own (vault_api_address, vault_connect_address)."
            )
    return apis


def in_parallel(items: list[Item], call: Callable[[Item], Result]) -> list[Result | SecretsError]:
    """Call `call` with each item at the same time; return results in order, our own errors in place of results."""

    def guarded(item: Item) -> Result | SecretsError:
        try:
            return call(item)
        except SecretsError as error:
            return error

    if not items:
        return []
    # The threads are gone when this returns: initialise.py blocks signals in the main thread and counts on being alone.
    with ThreadPoolExecutor(max_workers=len(items)) as pool:
        return list(pool.map(guarded, items))


def _seal_status(body: Mapping[str, Any]) -> SealStatus:
    return SealStatus(
        initialized=bool(body.get("initialized")),
        sealed=bool(body.get("sealed")),
        threshold=int(body.get("t") or 0),
        shares=int(body.get("n") or 0),
        progress=int(body.get("progress") or 0),
        nonce=str(body.get("nonce") or ""),
        cluster_id=str(body.get("cluster_id") or ""),
        version=str(body.get("version") or ""),
    )


def _bearer(token: Secret) -> dict[str, str]:
    return {"X-Vault-Token": token.reveal()}


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _tls_sentence(node: Node, ca_file: str, error: BaseException) -> str:
    cause = _innermost(error)
    reason = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else _cause(error)
    return (
        f"{node.name} ({node.url}): TLS failed ({reason.rstrip('.')}): its certificate must be valid now, carry the "
        f"name {node.host} and be signed by the authority in {ca_file} (vault_cluster_ca_file)."
    )


def _cause(error: BaseException) -> str:
    cause = _innermost(error)
    text = (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
    return text.rsplit(": ", 1)[-1] or type(cause).__name__


def _innermost(error: BaseException) -> BaseException:
    """Return what is at the bottom of the exceptions that requests and urllib3 wrap around each other."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((each for each in error.args if isinstance(each, BaseException)), None)
        inner = inner or error.__cause__ or error.__context__
        if inner is None:
            break
        error = inner
    return error
