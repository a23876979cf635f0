"""Users' programs at work: lanes that write and read secrets all the time, and tell how each request went.

Runs on a VM of the lab with its own python3; standard library only. A lane goes to one place, a node or a generic name, with
one request after the other at a steady rate: it reads one of its keys, writes a new value to it, then reads that key, or one
of all lanes' in turn. KV version 1 does not count versions, so a write that was acknowledged and rolled back can be seen
until its key is written over and no longer: nothing is written over whose read was not answered right before. A lane of a
generic name connects anew for each request, to what the VM's resolver says then; a lane of a node keeps its connection. A
patient lane tries what failed once more a second later: a write with a value of its own, since the first may yet take
effect, and no value may do so twice (see history.py). One that is not patient reads no more than that, and goes on at its
rate whatever fails: by it a gap in the service is measured that is shorter than a second.

Input: a line of JSON, {"lanes": [arguments of each `Lane`], "ca" (PEM), "path" (of a folder of KV version 1, below /v1/),
"token", "rate" (writes a second and lane), "timeout" (s)}; the program ends when standard input does. It then reads every
key once more through every patient lane. Output: a line of JSON a request, see `Told`; times are the machine's monotonic
clock, s. Its exit status is 1 where a lane broke down, with the reason on standard error.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import count, product

RETRY_AFTER = 1.0
KEYS = 4
SEALED, NOT_FOUND, INTERNAL = 503, 404, 500
OK = range(200, 300)
NO_VALUE = "no value: "  # nobody wrote what begins so
LAST_READS = 60.0  # s in all, for nodes that come back


@dataclass
class Told:
    """How a request went.

    Args:
        lane: whose.
        kind: write or read.
        key: of the secret.
        value: that was written; that was read, None where there is no such secret or no answer.
        begin: when it was begun.
        end: when its answer was there, or it was given up.
        outcome: done; refused, when it certainly was not carried out; unknown.
        address: of the server.
        error: why it was not done.
        retry: whether it is the second attempt.
        place: where the lane goes.
        patient: whether the lane is.
        last: whether it is of the reads at the end.
    """

    lane: str
    kind: str
    key: str
    value: str | None
    begin: float
    end: float = 0.0
    outcome: str = "unknown"
    address: str = ""
    error: str = ""
    retry: bool = False
    place: str = ""
    patient: bool = True
    last: bool = False


def keys(labels: Iterable[str]) -> list[str]:
    """Return the keys of lanes, in an order in which neighbours are of different lanes."""
    return [f"{label}-{number}" for number, label in product(range(KEYS), labels)]


class Lane:
    """One user's program.

    Args:
        label: what it is called; also the beginning of its keys.
        host: name that the server's certificate carries.
        port: TCP port.
        address: of the server; empty: what the resolver says at each request.
        place: what the place is called that it goes to; empty: as the lane.
        patient: whether it reads other keys as well, and waits for a second attempt.
    """

    def __init__(
        self,
        common: Workload,
        *,
        label: str,
        host: str,
        port: int,
        address: str = "",
        place: str = "",
        patient: bool = True,
    ) -> None:
        self.label = label
        self.patient = patient
        self._place = place or label
        self._keys = keys([label])
        self._common = common
        self._host = host
        self._port = port
        self._address = address
        self._connection: http.client.HTTPSConnection | None = None

    def work(self, turn: int) -> None:
        """Write a value; then, where it is patient, read one."""
        key = self._keys[turn % KEYS]
        value = f"{self.label}:{turn}:{os.getpid()}"
        written = self._write_over(key, value)
        if not self.patient:
            return
        if not written:
            time.sleep(RETRY_AFTER)
            self._write_over(key, f"{value}:again", retry=True)
        # Every second turn, and in the next round the turns between: so it reads each of its keys right after writing it.
        self.read(key if (turn + turn // KEYS) % 2 else self._common.keys[turn // 2 % len(self._common.keys)])

    def _write_over(self, key: str, value: str, *, retry: bool = False) -> bool:
        """Read a key, and write it where that was answered: an earlier write that was rolled back shows now or never."""
        read = self._request("read", key, None, retry=retry)
        return read.outcome == "done" and self._request("write", key, value, retry=retry).outcome == "done"

    def read(self, key: str, *, last: bool = False) -> Told:
        """Read a key, once more a second later where that failed."""
        told = self._request("read", key, None, last=last)
        if told.outcome != "done":
            time.sleep(RETRY_AFTER)
            told = self._request("read", key, None, retry=True, last=last)
        return told

    def read_all(self, deadline: float) -> None:
        """Read every key of every lane; a place that does not answer is asked again until the deadline."""
        for key in self._common.keys:
            while self.read(key, last=True).outcome != "done":
                if time.monotonic() >= deadline:
                    return

    def _request(self, kind: str, key: str, value: str | None, *, retry: bool = False, last: bool = False) -> Told:
        told = Told(self.label, kind, key, value, time.monotonic(), retry=retry, last=last)
        told.place, told.patient = self._place, self.patient
        sent = False
        try:
            connection = self._connected(told)
            sent = True
            told.outcome, told.value, told.error = self._exchange(connection, key, value)
            if not self._address or connection.sock is None:  # closed at the server's wish
                self._drop()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._drop()
            told.error = f"{type(error).__name__}: {error}"[:120]
            told.outcome = "unknown" if sent else "refused"
        told.end = time.monotonic()
        self._common.tell(told)
        return told

    def _connected(self, told: Told) -> http.client.HTTPSConnection:
        told.address = self._address or str(
            socket.getaddrinfo(self._host, self._port, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
        )
        if self._connection is None:
            raw = socket.create_connection((told.address, self._port), timeout=self._common.timeout)
            try:
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                secured = self._common.trust.wrap_socket(raw, server_hostname=self._host)
            except BaseException:
                raw.close()
                raise
            self._connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._common.timeout, context=self._common.trust
            )
            self._connection.auto_open = 0  # by itself it would connect to what the resolver says
            self._connection.sock = secured
        return self._connection

    def _exchange(self, connection: http.client.HTTPSConnection, key: str, value: str | None) -> tuple[str, str | None, str]:
        headers = {"X-Vault-Token": self._common.token}
        path = f"/v1/{self._common.path}/{key}"
        if value is None:
            connection.request("GET", path, headers=headers)
        else:
            connection.request("PUT", path, json.dumps({"value": value}), headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status in OK:
            return "done", value if value is not None else value_in(text), ""
        if value is None and answer.status == NOT_FOUND:
            return "done", None, ""
        # A sealed server, and one that says no, has done nothing; of an error in its midst nobody knows.
        outcome = "refused" if answer.status < INTERNAL or answer.status == SEALED else "unknown"
        return outcome, value, f"HTTP {answer.status}"

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.close()
        self._connection = None


def value_in(text: bytes) -> str:
    """Return the value in an answer; where there is none, what was there in its place, which the check calls invented."""
    try:
        return str(json.loads(text)["data"]["value"])
    except (ValueError, LookupError, TypeError):
        return f"{NO_VALUE}{text[:80]!r}"


class Workload:
    """All lanes, and what they share.

    Args:
        lanes: keyword arguments of each `Lane`.
        ca: PEM of the authority that signed the servers' certificates.
        path: of the folder, below /v1/.
        token: what to act with.
        rate: writes a second and lane.
        timeout: s, of a request.
    """

    def __init__(
        self, *, lanes: Sequence[dict[str, object]], ca: str, path: str, token: str, rate: float, timeout: float
    ) -> None:
        self.trust = ssl.create_default_context(cadata=ca)
        self.path = path
        self.token = token
        self.timeout = timeout
        self._interval = 1 / rate
        self._said = threading.Lock()
        self._ended = threading.Event()
        self.keys = keys(str(each["label"]) for each in lanes)
        self.lanes = [Lane(self, **each) for each in lanes]  # type: ignore[arg-type]

    def tell(self, told: Told) -> None:
        """Say how a request went."""
        line = json.dumps(asdict(told))
        with self._said:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def run(self) -> list[str]:
        """Work until the end is told, then read everything once more; return the lanes that broke down."""
        broken = self._together(self._keep_working, self.lanes)
        deadline = time.monotonic() + LAST_READS
        return broken + self._together(lambda lane: lane.read_all(deadline), [lane for lane in self.lanes if lane.patient])

    def end(self) -> None:
        """Have the lanes stop after the request that they are at."""
        self._ended.set()

    def _keep_working(self, lane: Lane) -> None:
        began, number = time.monotonic(), 0
        for turn in count():
            if self._ended.wait(max(0.0, began + number * self._interval - time.monotonic())):
                return
            lane.work(turn)
            # After a stall it goes on at its rate, and does not make up for what it missed.
            number = max(number + 1, int((time.monotonic() - began) / self._interval))

    @staticmethod
    def _together(work: Callable[[Lane], None], lanes: Sequence[Lane]) -> list[str]:
        broken = []

        def one(lane: Lane) -> None:
            try:
                work(lane)
            except Exception:
                broken.append(lane.label)
                sys.stderr.write(f"{lane.label} broke down: {traceback.format_exc(limit=-3)}")

        threads = [threading.Thread(target=one, args=(lane,), daemon=True) for lane in lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return broken


def main() -> None:
    """Work until standard input ends."""
    workload = Workload(**json.loads(sys.stdin.readline()))

    def wait_for_the_end() -> None:
        sys.stdin.read()
        workload.end()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    sys.exit(1 if workload.run() else 0)


if __name__ == "__main__":
    main()
