"""Load on the lab: programs that write and read on the users' VM while something is done to the service, and the verdict."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict

from checkin import Checkin
from lab import PROJECT, Lab, wait_for

sys.path.insert(0, str(PROJECT))

from bench.workload.client import RETRY_AFTER, keys
from bench.workload.completeness import silent, unread, unserved
from bench.workload.history import Figures, Request, figures, parse, violations

PROGRAM = PROJECT / "bench/workload/client.py"
PERSON = "ada"
NAME = ("name", "vault.services.lab.test", 8200)


class Load:
    """Programs on the VM: two a node, and two that go to the generic name. Of each pair one is patient (see client.py).

    Args:
        lab: whose.
        name: whether to go to the generic name as well.
        rate: writes a second of each, with a read before each, and of the patient one a read after it.
        timeout: s, of a request.
        ca: what the programs trust, PEM; empty: the lab's CA.
        keep: file in artefacts/ that the history is kept in; empty: none.
        nodes: those that programs go to; empty: all.
    """

    def __init__(
        self,
        lab: Lab,
        *,
        name: bool = True,
        rate: float = 10.0,
        timeout: float = 2.0,
        ca: str = "",
        keep: str = "",
        nodes: Sequence[str] = (),
    ) -> None:
        self.lab = lab
        self.keep = keep
        self._ca = ca or (lab.state / "ca/ca.crt").read_text()
        self.marks: list[tuple[str, float]] = []
        self.requests: list[Request] = []
        self.status: int | None = None
        self.said = ""
        self._lines: list[str] = []
        self._lanes: list[dict[str, object]] = [
            {"label": node, "host": f"{node}.lab.test", "port": 8200, "address": lab.addresses[node]}
            for node in nodes or lab.nodes
        ]
        if name:
            self._lanes.append(dict(zip(("label", "host", "port"), NAME, strict=True)))
        self._places = [str(lane["label"]) for lane in self._lanes]
        self._lanes += [
            {**lane, "label": f"{lane['label']}-at-once", "place": lane["label"], "patient": False} for lane in self._lanes
        ]
        self._labels = [str(lane["label"]) for lane in self._lanes]
        self._rate = rate
        self._timeout = timeout
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Load:
        """Send the program to the VM, start it, and wait until each lane has written."""
        place = f"/run/workload-{id(self)}.py"
        self.lab.ssh("vm", f"cat > {place} && chmod 0644 {place}", stdin=PROGRAM.read_text())
        token, path = self._login()
        task = {
            "lanes": self._lanes,
            "ca": self._ca,
            "path": path,
            "token": token,
            "rate": self._rate,
            "timeout": self._timeout,
        }
        hosts = self.lab.state / "ssh/known_hosts"
        self._process = subprocess.Popen(
            ["ssh", "-i", self.lab.state / "ssh/id_ed25519", "-o", f"UserKnownHostsFile={hosts}",
             "-o", "StrictHostKeyChecking=yes", f"root@{self.lab.addresses['vm']}",
             f"trap 'rm -f {place}' EXIT; runuser -u nobody -- python3 -u {place}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdin
        self._process.stdin.write(json.dumps(task) + "\n")  # the token too: no list of processes has it
        self._process.stdin.flush()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

        def every_lane_works() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, (self._process.stderr.read() if self._process.stderr else "")[-2000:]
            written = {each.lane for each in parse(list(self._lines)) if each.kind == "write" and each.done}
            return len(written) == len(self._lanes)

        try:
            wait_for(every_lane_works, 30, "each program to have been served")
        except BaseException:
            self._process.kill()  # nobody will leave what was never entered
            raise
        self.mark("begin")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Have them read everything once more, and end."""
        self.mark("end")
        assert self._process is not None
        assert self._reader is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        if kind is not None:
            self._process.kill()  # what went wrong is told without the last reads
        self._reader.join(120)
        self.status = self._process.wait(10)
        self.said = self._process.stderr.read() if self._process.stderr else ""
        self.requests = parse(self._lines)
        if self.keep:
            (PROJECT / "artefacts").mkdir(exist_ok=True)
            kept = {
                "marks": self.marks,
                "figures": asdict(self.figures()),
                "requests": [asdict(each) for each in self.requests],
            }
            (PROJECT / "artefacts" / self.keep).write_text(json.dumps(kept))

    def mark(self, label: str) -> float:
        """Remember a moment, and return it."""
        now = time.monotonic()
        self.marks.append((label, now))
        return now

    def figures(self) -> Figures:
        """Return what the load went through between its beginning and its end."""
        moments = dict(self.marks)
        return figures(self.requests, moments["begin"], moments["end"])

    def assert_sound(self, longest_down: float | None = 90) -> Figures:
        """Assert that nothing acknowledged was lost, nothing old came back and nothing came from nowhere.

        That all programs worked until the end is asserted as well: of one that did not the history tells too little.

        Args:
            longest_down: s that a place may be without an acknowledged write; None: not judged.
        """
        assert self.status == 0, f"The programs ended with {self.status}: {self.said[-2000:]}"
        found = violations(self.requests)
        assert not found, "\n".join(each.sentence for each in found[:20])
        moments = dict(self.marks)
        begin, ended = moments["begin"], moments["end"]
        work = [each for each in self.requests if not each.last]
        # Connecting, TLS, the request and its answer may take a timeout each.
        quiet = silent(work, self._labels, ended - RETRY_AFTER - 4 * self._timeout)
        assert not quiet, f"These fell silent before the end: {', '.join(quiet)}."
        idle = unserved(work, self._places, begin, ended)
        assert not idle, f"No write was acknowledged at: {', '.join(idle)}."
        missing = unread(self.requests, self._places, keys(self._labels))
        pairs = ", ".join(f"{key} by {lane}" for lane, key in missing[:40])
        assert not missing, f"Not read at the end, {len(missing)} in all: {pairs}."
        seen = self.figures()
        down = {place: gap for place, gap in seen.gaps.items() if longest_down is not None and gap.length > longest_down}
        told = ", ".join(f"{place} for {gap.length:.1f} s from {gap.begin - begin:.1f} s on" for place, gap in down.items())
        assert not down, f"No write was acknowledged for longer than {longest_down} s at: {told}."
        return seen

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)

    def _login(self) -> tuple[str, str]:
        """Return a user's token, and a new folder of theirs: what an earlier load wrote is not of this one's history."""
        checkin = Checkin(self.lab)
        login = {"jwt": checkin.token(PERSON), "role": ""}
        answer = self.lab.api(self.lab.active(), "POST", "auth/jwt/login", login)
        assert answer.status == 200, answer.body.get("errors")
        return str(answer.body["auth"]["client_token"]), f"secrets/users/{checkin.people[PERSON]}/load-{uuid.uuid4()}"


def assert_served(seen: Figures, together: float = 6, name: float = 8) -> None:
    """Assert that writes were acknowledged all the time, by some node and, where programs go there, through the name.

    These bounds are against outages, on slow machines as well; what it really takes, 0.6 s, bench/upgrade.py measures.

    Args:
        seen: what the load went through.
        together: s without an acknowledged write over all nodes and the name together.
        name: s of the same through the name.
    """
    assert seen.gap.length < together, f"No write was acknowledged anywhere for {seen.gap.length:.1f} s."
    through = seen.gaps.get(NAME[0])
    assert through is None or through.length < name, f"None was through the name for {through.length:.1f} s."
