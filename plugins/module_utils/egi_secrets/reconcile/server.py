"""The active node's API for many requests side by side, over kept connections.

urllib3 and not hvac: a thousand VOs are thousands of small reads, and a pool of connections that threads share makes each
cost what it must and no more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import urllib3

from ..api import Node, Secret
from ..errors import RefusedError, UnreachableError

NOT_FOUND = 404
METHOD_NOT_ALLOWED = 405
_OK = range(200, 300)

Item = TypeVar("Item")
Result = TypeVar("Result")


class Server:
    """One node's API as one token sees it. Safe to share between threads.

    Args:
        node: the node to talk to, the active one.
        ca_file: PEM file of the authority that signed the node's certificate.
        timeout: seconds to connect, and seconds to wait for each answer.
        concurrency: connections that are kept, and requests that `each` makes side by side.
    """

    def __init__(self, node: Node, ca_file: str, timeout: float, concurrency: int) -> None:
        self.node = node
        self.concurrency = concurrency
        self.requests = 0
        self._token: Secret | None = None
        self._pool = urllib3.HTTPSConnectionPool(
            host=node.connect_address or node.host,
            port=node.port,
            server_hostname=node.host,
            assert_hostname=node.host,
            ca_certs=ca_file,
            maxsize=concurrency,
            block=True,
            retries=False,
            timeout=timeout,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.close()

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
        headers = {"Host": f"{self.node.host}:{self.node.port}"}
        if bearer:
            headers["X-Vault-Token"] = bearer.reveal()
        content = None
        if body is not None:
            content = json.dumps(body)
            headers["Content-Type"] = "application/json"
        self.requests += 1
        try:
            answer = self._pool.request(method, "/v1/" + quote(path), body=content, headers=headers, redirect=False)
        except urllib3.exceptions.HTTPError as error:
            raise UnreachableError(
                self.node.name,
                f"{self.node.name} ({self.node.url}) did not answer {method} {path} ({type(error).__name__}): see how the "
                "cluster stands with playbooks/operate/show-status.yml, and run this again.",
            ) from None
        if answer.status in _OK:
            return _object(answer.data)
        if absent is None and (answer.status == NOT_FOUND or (method == "LIST" and answer.status == METHOD_NOT_ALLOWED)):
            return None
        reasons = [" ".join(str(reason).split()).rstrip(".") for reason in _object(answer.data).get("errors") or []]
        raise RefusedError(
            self.node.name,
            answer.status,
            reasons,
            f"{self.node.name} refused {method} {path}: HTTP {answer.status}, {'; '.join(reasons) or 'without a reason'}.",
        )

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


def by_name(objects: Iterable[tuple[str, Result | None]]) -> dict[str, Result]:
    """Return a mapping of the objects that are there."""
    return {name: found for name, found in objects if found is not None}


def _object(text: bytes) -> dict[str, Any]:
    try:
        body = json.loads(text) if text else {}
    except ValueError:
        body = {}
    return body if isinstance(body, dict) else {}
