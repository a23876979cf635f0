"""The active node's API for many requests side by side, over kept connections.

Python's own HTTP client: a thousand VOs are thousands of small reads, and connections that threads share make each cost
what it must and no more. 2,200 reads took 2.1 s through urllib3's pool and take 1.3 s so, on two cores with the server.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar
from urllib.parse import quote

from ..api import Node, Secret
from ..errors import RefusedError, UnreachableError

RATE_LIMIT_PATIENCE = 30.0  # seconds; users' own limits count for this address too
TOO_MANY = 429
FORBIDDEN = 403
NOT_FOUND = 404
METHOD_NOT_ALLOWED = 405
SERVER_ERROR = 500
_OK = range(200, 300)
_CHUNK = 1 << 20
_FIRST_BYTE = 60.0  # seconds: the leader writes a whole snapshot before it sends it

Item = TypeVar("Item")
Result = TypeVar("Result")


class Server:
    """One node's API as one token sees it. Safe to share between threads.

    Args:
        node: the node to talk to, the active one.
        ca_file: PEM file of the authority that signed the node's certificate.
        timeout: seconds to connect, and seconds to wait for each answer.
        concurrency: requests that `each` makes side by side.
    """

    def __init__(self, node: Node, ca_file: str, timeout: float, concurrency: int) -> None:
        self.node = node
        self.concurrency = concurrency
        self.requests = 0
        self._token: Secret | None = None
        self._timeout = timeout
        self._context = ssl.create_default_context(cafile=ca_file)
        self._idle: deque[_Connection] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for connection in self._idle:
            connection.close()

    def act_with(self, token: Secret) -> None:
        """Make every further request with this token."""
        self._token = token

    def read(self, path: str) -> dict[str, Any] | None:
        """Return the `data` of an object, or None where there is none (GET)."""
        answer = self.request("GET", path, absent=None)
        return None if answer is None else answer.get("data") or {}

    def names(self, path: str) -> list[str]:
        """Return the names below a path, none where there are none (LIST)."""
        answer = self.request("LIST", path, absent=None)
        return [str(name) for name in ((answer or {}).get("data") or {}).get("keys") or []]

    def write(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Write an object, and return what the server answers (POST)."""
        return self.request("POST", path, body) or {}

    def delete(self, path: str) -> None:
        """Delete an object; that it is not there is as good (DELETE)."""
        self.request("DELETE", path, absent=None)

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        absent: object = ...,
        token: Secret | None = None,
    ) -> dict[str, Any] | None:
        """Make one request.

        Args:
            method: GET, LIST, POST or DELETE.
            path: below /v1/, not quoted.
            body: what is sent as JSON.
            absent: give None to have None returned where the server says 404 or, to LIST, 405.
            token: instead of the one that this object acts with.

        Returns:
            The answer's JSON object, empty where it has none.

        Raises:
            RefusedError: the server answered with an error.
            UnreachableError: it did not answer.
        """
        bearer = token or self._token
        headers = {"X-Vault-Token": bearer.reveal()} if bearer else {}
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        self.requests += 1
        try:
            status, text = self._exchange(method, "/v1/" + quote(path), content, headers)
            deadline = time.monotonic() + RATE_LIMIT_PATIENCE
            while status == TOO_MANY and time.monotonic() < deadline:
                time.sleep(0.5)
                status, text = self._exchange(method, "/v1/" + quote(path), content, headers)
        except (OSError, http.client.HTTPException) as error:  # first: a certificate that is not trusted is a ValueError too
            raise self._silence(method, path, error) from None
        except ValueError:  # what a header cannot carry; the reason would show it
            raise RefusedError(
                self.node.name,
                0,
                ["not a token"],
                f"The token to ask {self.node.name} with holds a character that no token has, such as a line break: give "
                "VAULT_TOKEN (vault_config_token) as it was printed.",
            ) from None
        if status in _OK:
            return _object(text)
        if absent is None and (status == NOT_FOUND or (method == "LIST" and status == METHOD_NOT_ALLOWED)):
            return None
        raise self._refusal(method, path, status, text)

    def _refusal(self, method: str, path: str, status: int, text: bytes) -> RefusedError:
        reasons = [" ".join(str(reason).split()).rstrip(".") for reason in _object(text).get("errors") or []]
        sentence = f"{self.node.name} refused {method} {path}: HTTP {status}, {'; '.join(reasons) or 'without a reason'}."
        error = RefusedError(self.node.name, status, reasons, sentence)
        if not error.redirected:
            return error
        sentence = (
            f"{self.node.name} did not do {method} {path} and names another node that leads (HTTP {status}): leadership "
            "has moved meanwhile. Run this again."
        )
        return RefusedError(self.node.name, status, reasons, sentence)

    def _silence(self, method: str, path: str, error: Exception) -> UnreachableError:
        return UnreachableError(
            self.node.name,
            f"{self.node.name} ({self.node.url}) did not answer {method} {path} ({type(error).__name__}): see how the "
            "cluster stands with playbooks/operate/show-status.yml, and run this again.",
        )

    def download(self, path: str, target: BinaryIO) -> None:
        """Write what a path holds to a file, in pieces (GET).

        Args:
            path: below /v1/, not quoted.
            target: file that is open for writing.

        Raises:
            RefusedError: the server answered with an error.
            UnreachableError: it did not answer, or not to the end.
        """
        headers = {"X-Vault-Token": self._token.reveal()} if self._token else {}
        connection = _Connection(self.node, max(self._timeout, _FIRST_BYTE), self._context)
        try:
            try:
                connection.request("GET", "/v1/" + quote(path), headers=headers)
                answer = connection.getresponse()
            except OSError as error:  # later ones may be of the file
                raise self._silence("GET", path, error) from None
            if answer.status not in _OK:
                raise self._refusal("GET", path, answer.status, answer.read())
            shutil.copyfileobj(answer, target, _CHUNK)
        except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
            raise self._silence("GET", path, error) from None
        finally:
            connection.close()

    def _exchange(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Send one request over a connection that nobody else uses, and return the answer's status and body."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = _Connection(self.node, self._timeout, self._context)
        try:
            connection.request(method, url, body, headers)
            answer = connection.getresponse()
            text = answer.read()
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return answer.status, text

    def each(self, items: Sequence[Item], call: Callable[[Item], Result]) -> list[Result]:
        """Call `call` with each item, side by side, and return the results in order.

        Raises:
            SecretsError: the first that a call raised; calls that were under way have ended by then, and no further one
                was begun.
        """
        if len(items) < 2:  # noqa: PLR2004 - nothing to do side by side
            return [call(item) for item in items]
        with ThreadPoolExecutor(self.concurrency) as pool:
            futures = [pool.submit(call, item) for item in items]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


class _Connection(http.client.HTTPSConnection):
    """A connection to a node, at its `connect_address` where it has one; TLS is verified against its name all the same."""

    def __init__(self, node: Node, timeout: float, context: ssl.SSLContext) -> None:
        super().__init__(node.host, node.port, timeout=timeout, context=context)
        self._address = (node.connect_address or node.host, node.port)
        self._tls = context

    def connect(self) -> None:
        plain = socket.create_connection(self._address, self.timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


def _object(text: bytes) -> dict[str, Any]:
    try:
        body = json.loads(text) if text else {}
    except ValueError:
        body = {}
    return body if isinstance(body, dict) else {}
