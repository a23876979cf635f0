"""A user's program: keeps writing and reading a secret under the generic name, and says how each attempt went.

Runs on a VM of the lab with its own python3; standard library only. Each operation is begun on time whether or not those
before it have ended, asks the VM's resolver for the name anew, connects to what it is told over verified TLS, writes a value
and reads it back. An operation that fails is tried once more a second later, so that one run tells how a client fares that
retries and one that does not.

Input: a line of JSON, {"name", "port", "ca" (PEM), "path" (below /v1/), "token", "interval" (s), "timeout" (s)}; the program
ends when standard input does. Output: a line of JSON an operation, see `Told`; times are the machine's monotonic clock, s.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import sys
import threading
import time
from dataclasses import asdict, dataclass

RETRY_AFTER = 1.0
OK = range(200, 300)


@dataclass
class Told:
    """How an operation went.

    Args:
        at: when it was begun.
        took: s, of the first attempt.
        address: of the server that the first attempt was sent to; empty where the name was not resolved.
        error: why the first attempt failed; empty: it did not.
        retried: s from the beginning to the end of the second attempt; 0 without one.
        retry_address: of the server that it was sent to.
        retry_error: why the second attempt failed; empty: it did not, or there was none.
    """

    at: float
    took: float = 0.0
    address: str = ""
    error: str = ""
    retried: float = 0.0
    retry_address: str = ""
    retry_error: str = ""


class FailedError(Exception):
    """An attempt that failed, and why."""


class Client:
    """The program.

    Args:
        name: the generic name.
        port: TCP port.
        ca: PEM of the authority that signed the servers' certificates.
        path: of the secret, below /v1/; each operation adds the number of its lane.
        token: what to act with.
        timeout: s, of an attempt in all.
    """

    def __init__(self, *, name: str, port: int, ca: str, path: str, token: str, timeout: float) -> None:
        self.name = name
        self.port = port
        self.trust = ssl.create_default_context(cadata=ca)
        self.path = path
        self.token = token
        self.timeout = timeout
        self._said = threading.Lock()

    def operate(self, number: int, at: float) -> None:
        """Carry out an operation, the second attempt included, and say how it went."""
        told = Told(at)
        told.address, told.error = self._attempt(number)
        told.took = time.monotonic() - at
        if told.error:
            time.sleep(RETRY_AFTER)
            told.retry_address, told.retry_error = self._attempt(number)
            told.retried = time.monotonic() - at
        line = json.dumps(
            {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(told).items()}
        )
        with self._said:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def _attempt(self, number: int) -> tuple[str, str]:
        """Write a value and read it back; return the server's address, and why it failed."""
        ends = time.monotonic() + self.timeout
        address = ""
        try:
            address = str(socket.getaddrinfo(self.name, self.port, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
            self._write_and_read(address, f"/v1/{self.path}-{number % 64}", f"{os.getpid()}-{number}", ends)
        except FailedError as error:
            return address, str(error)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return address, f"{type(error).__name__}: {error}"[:120]
        return address, ""

    def _write_and_read(self, address: str, path: str, value: str, ends: float) -> None:
        connection = http.client.HTTPSConnection(self.name, self.port, context=self.trust)
        raw = socket.create_connection((address, self.port), timeout=_left(ends))
        try:
            raw.settimeout(_left(ends))
            secured = self.trust.wrap_socket(raw, server_hostname=self.name)
        except BaseException:
            raw.close()
            raise
        connection.sock = secured
        try:
            headers = {"X-Vault-Token": self.token}
            secured.settimeout(_left(ends))
            connection.request("PUT", path, json.dumps({"value": value}), headers)
            written = connection.getresponse()
            written.read()
            if written.status not in OK:
                raise FailedError(f"write: HTTP {written.status}")
            secured.settimeout(_left(ends))
            connection.request("GET", path, headers=headers)
            read = connection.getresponse()
            text = read.read()
            if read.status not in OK:
                raise FailedError(f"read: HTTP {read.status}")
            if json.loads(text)["data"]["value"] != value:
                raise FailedError("read: not what was written")
        finally:
            connection.close()


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def main() -> None:
    """Begin an operation each interval until standard input ends."""
    task = json.loads(sys.stdin.readline())
    interval = float(task.pop("interval"))
    client = Client(**task)
    ended = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    begun, number = time.monotonic(), 0
    running: list[threading.Thread] = []
    while not ended.wait(max(0.0, begun + number * interval - time.monotonic())):
        thread = threading.Thread(target=client.operate, args=(number, time.monotonic()), daemon=True)
        thread.start()
        running = [each for each in running if each.is_alive()] + [thread]
        number += 1
    for each in running:  # those begun are told too
        each.join(2 * client.timeout + RETRY_AFTER + 1)


if __name__ == "__main__":
    main()
