"""Walks: operators' runs, killed at each task that changes something and in each way, and what must hold after that."""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from checkin import Checkin
from killing import TELLING, Killed, Point, Task, changing, kill_after_changes, kill_at, points, record
from lab import PROJECT, Lab, Run, wait_for
from load import Load
from secrets_left import Secret, known, left, now
from sign_in import SignInError

ARTEFACTS = PROJECT / "artefacts"
BUNDLE = "/etc/openbao/unseal-bundle.json"
AUTOPILOT = "sys/storage/raft/autopilot/state"
# What a recording is of: when any of it changes, the walk is recorded anew.
RECORDED = ("playbooks", "roles", "plugins", "files", "inventories/lab", "molecule/shared")


@dataclass(frozen=True)
class Step:
    """An operator's run.

    Attributes:
        playbook: below playbooks/.
        operators: whose keyrings are at the keyboard; the first one logs in.
        arguments: further ones.
        also: further playbooks of the same run.
    """

    playbook: str
    operators: tuple[str, ...] = ("alice",)
    arguments: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Remedy:
    """What a killed run may leave behind that people have to mend.

    Attributes:
        task: a part of the name of the task that it may be killed in for that; no other may leave it.
        sentence: what the next run says.
        do: what people do then.
    """

    task: str
    sentence: str
    do: Callable[[Lab], object]


@dataclass(frozen=True)
class Walk:
    """What is killed everywhere.

    Attributes:
        name: of its report.
        steps: runs of operators in turn which bring the lab from where `reset` leaves it to where nothing is left to do.
        reset: brings the lab to where the walk starts from, and returns arguments that all steps are given.
        check: further sentences on what is amiss once it has converged, for the arguments that all steps were given.
        remedies: what a killed run may leave behind and people have to mend.
        load: how many nodes users work with meanwhile; 0: none.
        longest_down: s that one of them may be without an acknowledged write; None: not judged.
        hosts: whose disks are looked at.
    """

    name: str
    steps: tuple[Step, ...]
    reset: Callable[[Lab], Sequence[str]]
    check: Callable[[Lab, Sequence[str]], list[str]] = lambda *_: []
    remedies: tuple[Remedy, ...] = ()
    load: int = 0
    longest_down: float | None = 90
    hosts: tuple[str, ...] = Lab.nodes


@dataclass(frozen=True)
class Place:
    """A point of a step of a walk."""

    step: int
    point: Point

    def __str__(self) -> str:
        return f"run {self.step + 1}: {self.point}"


@dataclass
class Verdict:
    """What came of one kill.

    Attributes:
        place: where it was.
        runs: how many the operators then needed until nothing was left to do; 0: they never got there.
        seconds: all of it took, from the kill on.
        changed: hosts that the task had changed by then.
        late: the task was over before the kill.
        idle: the next run had nothing left to do.
        remedy: what people had to do besides.
        problems: sentences; none of them when all is well.
    """

    place: str
    runs: int = 0
    seconds: float = 0.0
    changed: int | None = None
    late: bool = False
    idle: bool = False
    remedy: str = ""
    problems: list[str] = field(default_factory=list)


class Walker:
    """Goes through a walk's places on a lab.

    Args:
        lab: which.
        walk: what.
    """

    def __init__(self, lab: Lab, walk: Walk) -> None:
        self.lab = lab
        self.walk = walk
        self.given: Sequence[str] = ()
        self.tokens: list[str] = []
        self.secrets: list[Secret] = []

    # --- what there is to kill -----------------------------------------------------------------------------------------

    def places(self) -> list[Place]:
        """Return where to kill, from a whole run that is recorded where none of this code was."""
        path = ARTEFACTS / f"kills-{self.walk.name}-recorded.json"
        digest = _digest()
        if path.exists() and (kept := json.loads(path.read_text()))["digest"] == digest:
            tasks = [[Task(**each) for each in step] for step in kept["tasks"]]
        else:
            tasks = self.record()
            ARTEFACTS.mkdir(exist_ok=True)
            path.write_text(
                json.dumps({"digest": digest, "tasks": [[asdict(each) for each in step] for step in tasks]}, indent=1)
            )
        return [Place(number, point) for number, step in enumerate(tasks) for point in points(step)]

    def record(self) -> list[list[Task]]:
        """Go through all steps without a kill, and return the tasks of each that changed something."""
        self.given = self.walk.reset(self.lab)
        recorded = []
        for step in self.walk.steps:
            run, told = record(self.lab.start(*self._call(step), **self._keyboard(step), variables=TELLING))
            assert run.returncode == 0, f"{step.playbook} failed without any kill:\n{run.output[-6000:]}"
            recorded.append(changing(told))
        assert any(recorded), f"Nothing changed in the walk {self.walk.name}: there is nothing to kill."
        return recorded

    # --- one kill ------------------------------------------------------------------------------------------------------

    def kill(self, place: Place) -> Verdict:
        """Reset, kill a run at a place, let the operators run again, and judge."""
        verdict = self._kill(str(place), place.step, lambda process: kill_at(process, place.point))
        # Where the next run has nothing to do either, all was done before: that is no task that went unkilled.
        if place.point.kind == "after" and verdict.changed == 0 and not verdict.idle:
            verdict.problems.append(
                "the task changed nothing, and the recording says that it does: nothing was killed after it"
            )
        return verdict

    def kill_after(self, changes: int, step: int = 0) -> Verdict:
        """As `kill`, after so many results that changed something, whichever they are: needs no recording."""
        return self._kill(f"after change {changes}", step, lambda process: kill_after_changes(process, changes))

    def _kill(self, name: str, number: int, kill: Callable[[Any], Killed]) -> Verdict:
        verdict = Verdict(name)
        since = now()
        self.given = self.walk.reset(self.lab)
        for step in self.walk.steps[:number]:
            self.run(step)
        with ExitStack() as stack:
            self._remember_secrets()
            load = stack.enter_context(Load(self.lab, name=False, nodes=self._loaded())) if self.walk.load else None
            step = self.walk.steps[number]
            killed = kill(self.lab.start(*self._call(step), **self._keyboard(step), variables=TELLING))
            began = time.monotonic()
            verdict.changed, verdict.late = killed.landed, killed.late
            if killed.landed is None or killed.run.returncode >= 0:
                verdict.problems.append(f"the run ended with {killed.run.returncode} before the kill: {_tail(killed.run)}")
            verdict.problems += [f"{each}, right after the kill" for each in self._leaks(since)]
            self._converge(verdict, number)
            verdict.seconds = round(time.monotonic() - began, 1)
        if load is not None:
            try:
                load.assert_sound(self.walk.longest_down)
            except AssertionError as error:
                verdict.problems.append(f"history: {error}")
        verdict.problems += self._leaks(since)
        verdict.problems += self.walk.check(self.lab, self.given)
        return verdict

    def _converge(self, verdict: Verdict, number: int) -> None:
        """Run the operators' steps from the killed one on, then once more: that changes nothing."""
        # One more turn of everybody at most: a share that was submitted before the kill may have to be submitted again.
        todo = [*self.walk.steps[number:], *self.walk.steps]
        least = len(self.walk.steps) - number
        for count, step in enumerate(todo, 1):
            run = self._run(step)
            if run.returncode != 0 and self._mended(verdict, run):
                run = self._run(step)  # whoever mended it runs the same again
            if count == 1:
                verdict.idle = run.returncode == 0 and run.recap("changed") == 0
            if run.returncode != 0:
                verdict.problems.append(f"run {count} after the kill failed: {_tail(run)}")
            if count >= least:
                again = self._run(self.walk.steps[-1])
                if again.returncode == 0 and again.recap("changed") == 0:
                    verdict.runs = count
                    return
        verdict.problems.append(f"not converged after {len(todo)} runs: {_tail(again)}")

    def _mended(self, verdict: Verdict, run: Run) -> bool:
        """Do what a failed run asks people for, once; return whether there was anything."""
        for remedy in self.walk.remedies:
            if remedy.sentence in run.text and remedy.task in verdict.place and not verdict.remedy:
                remedy.do(self.lab)
                verdict.remedy = remedy.sentence
                return True
        return False

    # -------------------------------------------------------------------------------------------------------------------

    def _call(self, step: Step) -> list[str]:
        also = [str(PROJECT / "playbooks" / playbook) for playbook in step.also]
        return [step.playbook, *also, "-e", _keyrings(self.lab, *step.operators), *step.arguments, *self.given]

    def _keyboard(self, step: Step) -> dict[str, str]:
        """Return who is at the keyboard, with a fresh access token where the lab has a Check-in."""
        try:
            token = Checkin(self.lab).token(step.operators[0])
        except SignInError:
            token = ""
        self.tokens = [token, *self.tokens[:8]]
        return {"operator": step.operators[0], "jwt": token}

    def run(self, step: Step) -> Run:
        """Make an operator's run that must succeed."""
        run = self._run(step)
        assert run.returncode == 0, f"{step.playbook} failed before any kill:\n{run.output[-6000:]}"
        return run

    def _run(self, step: Step) -> Run:
        return self.lab.run(*self._call(step), **self._keyboard(step))

    def _loaded(self) -> list[str]:
        """Return the nodes that users work with, once as many serve as the walk says."""
        wait_for(lambda: len(serving(self.lab)) == self.walk.load, 60, f"{self.walk.load} nodes to serve")
        return serving(self.lab)

    def _leaks(self, since: float) -> list[str]:
        self._remember_secrets()
        return left(self.lab, self.secrets, since, self.walk.hosts)

    def _remember_secrets(self) -> None:
        """Keep those of now, too: shares that a rekey replaces are given once more, and open older snapshots."""
        self.secrets = list(dict.fromkeys([*self.secrets, *known(self.lab, self.tokens)]))


# --- which places, and what is told of them ------------------------------------------------------------------------------


def sample(places: Sequence[Place], count: int, seed: int) -> list[Place]:
    """Return a few places, the same ones for the same seed, in the walk's order; no task twice while others are left."""
    rng = random.Random(seed)  # noqa: S311  # nothing secret
    shuffled = rng.sample(list(places), len(places))
    seen: dict[tuple[int, str], int] = {}
    ranked = []
    for place in shuffled:
        key = (place.step, place.point.name)
        seen[key] = seen.get(key, 0) + 1
        ranked.append((seen[key], place))
    chosen = {id(place) for _, place in sorted(ranked, key=lambda each: each[0])[:count]}
    return [place for place in places if id(place) in chosen]


def report(walk: str, verdict: Verdict) -> None:
    """Add a verdict to the walk's report; an earlier one on the same place gives way."""
    path = ARTEFACTS / f"kills-{walk}.json"
    rows = [row for row in _rows(path) if row["place"] != verdict.place]
    ARTEFACTS.mkdir(exist_ok=True)
    path.write_text(json.dumps([*rows, asdict(verdict)], indent=1))


def none_in_the_middle(walk: str, places: Sequence[Place]) -> bool:
    """Return whether all kills in the middle of a task that the walk's report has were late; False where it has none."""
    middle = {str(place) for place in places if place.point.kind == "middle"}
    late = [row["late"] for row in _rows(ARTEFACTS / f"kills-{walk}.json") if row["place"] in middle]
    return bool(late) and all(late)


def table(walk: str) -> str:
    """Return the walk's report for a screen."""
    rows = _rows(ARTEFACTS / f"kills-{walk}.json")
    width = max([len(row["place"]) for row in rows], default=0)
    lines = [f"{'KILLED AT':<{width}}  CHANGED  RUNS  SECONDS  VERDICT"]
    for row in rows:
        said = (
            row["problems"][0][:160]
            if row["problems"]
            else f"well, after people mended it: {row['remedy']}"
            if row["remedy"]
            else "well"
        )
        changed = f"{'?' if row['changed'] is None else row['changed']}{', late' if row['late'] else ''}"
        lines.append(f"{row['place']:<{width}}  {changed:>7}  {row['runs']:>4}  {row['seconds']:>7.1f}  {said}")
    return "\n".join(lines)


def _rows(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text()) if path.exists() else []


def _tail(run: Run) -> str:
    """Return what a failed run said last, in a line."""
    failed = [line for line in run.output.splitlines() if "fatal:" in line or "msg:" in line or line.startswith("[ERROR]")]
    return " ".join(" ".join(failed[-4:] or run.output.splitlines()[-12:]).split())[-900:]


def _digest() -> str:
    total = hashlib.sha256()
    for place in RECORDED:
        root = PROJECT / place
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if path.is_file() and "__pycache__" not in path.parts:
                total.update(str(path.relative_to(PROJECT)).encode() + path.read_bytes())
    return total.hexdigest()


# --- the walks -----------------------------------------------------------------------------------------------------------


def bare(lab: Lab) -> Sequence[str]:
    """Have bare hosts."""
    lab.wipe(hosts=True)
    return ()


def lost_answer(lab: Lab) -> None:
    """Do what docs/key-ceremony.md says where the answer of sys/init was lost and nothing was ever stored."""
    for node in lab.nodes:
        lab.ssh(
            node,
            "systemctl stop openbao; rm -rf /var/lib/openbao/*; systemctl reset-failed openbao; systemctl start openbao",
        )


def serving(lab: Lab) -> list[str]:
    """Return the nodes that serve users: a walk may begin with a host that is lost."""
    return [node for node in lab.nodes if lab.api(node, "GET", "sys/health").status in (200, 429)]


def serves(lab: Lab, _: Sequence[str] = ()) -> list[str]:
    """Say which nodes do not serve."""
    stands = {node: lab.api(node, "GET", "sys/health").status for node in lab.nodes}
    if sorted(stands.values()) != [200, 429, 429]:
        return [f"not whole: {stands}"]
    return []


def standing(lab: Lab) -> None:
    """Have the service stand, configured, whatever an earlier kill left."""
    if serves(lab):
        lab.run("operate/unseal.yml", "-e", _keyrings(lab, "alice", "bob"))
    if serves(lab):
        Walker(lab, CEREMONY).record()


def voters(lab: Lab) -> list[str]:
    """Say what Raft's members are, where they are not the lab's nodes, all of them healthy voters; asked as an operator."""
    token = lab.api(lab.active(), "POST", "auth/jwt/login", {"role": "operator", "jwt": Checkin(lab).token("alice")})
    login = str(token.body["auth"]["client_token"])
    found: dict[str, tuple[str, bool]] = {}

    def all_vote() -> bool:
        told = lab.api(lab.active(), "GET", AUTOPILOT, token=login)
        servers = told.body["data"]["servers"] if told.status == 200 else {}
        found.update({name: (each["status"], each["healthy"]) for name, each in servers.items()})
        return sorted(servers) == sorted(lab.nodes) and all(healthy for _, healthy in found.values())

    try:
        wait_for(all_vote, 60, "every member to be a healthy voter")
    except AssertionError:
        return [f"Raft's members are {found}"]
    finally:
        lab.api(lab.active(), "POST", "auth/token/revoke-self", {}, token=login)
    return [f"{name} does not vote" for name, (status, _) in found.items() if status not in ("leader", "voter")]


def upgraded(lab: Lab, given: Sequence[str]) -> list[str]:
    """Say which node does not serve with what was asked for: its process is older than its file, or has another level."""
    problems = serves(lab)
    wanted = json.loads(given[-1])["vault_server_log_level"]
    levels = {node: lab.ssh(node, "grep log_level /etc/openbao/openbao.hcl").strip() for node in lab.nodes}
    problems += [f"{node} has {level}, not {wanted}" for node, level in levels.items() if f'"{wanted}"' not in level]
    older = (
        'test "$(date +%s -d "$(systemctl show -p ExecMainStartTimestamp --value openbao)")" '
        "-ge $(stat -c %Y /etc/openbao/openbao.hcl) || echo older"
    )
    return problems + [f"{node} runs what it had before" for node in lab.nodes if lab.ssh(node, older)]


def replaced(lab: Lab, _: Sequence[str] = ()) -> list[str]:
    """Say what does not serve, or does not vote."""
    return serves(lab) + voters(lab)


def other_level(lab: Lab) -> Sequence[str]:
    """Ask for a change of configuration, on a service that stands. Names have a story of their own, which waits for TTLs."""
    standing(lab)
    level = "info" if "debug" in lab.ssh("vault-infn", "grep log_level /etc/openbao/openbao.hcl") else "debug"
    return ("-e", json.dumps({"vault_server_log_level": level, "endpoint_failover_names": []}))


def three_of_three(lab: Lab) -> Sequence[str]:
    """Have keys of which all three are needed, on a service that stands; two are asked for."""
    standing(lab)
    if lab.bundle()["threshold"] != 3 or lab.bundle().get("pending"):
        Walker(lab, Walk("three-of-three", (ALL_THREE,), lambda _: ())).run(ALL_THREE)
    return ()


def one_set_of_keys(lab: Lab, _: Sequence[str] = ()) -> list[str]:
    """Say what does not serve, and what is left of a rekey."""
    bundle = lab.bundle()
    text = (lab.state / "unseal-bundle.json").read_text()
    problems = serves(lab)
    if (bundle["threshold"], bundle.get("pending"), bundle.get("previous")) != (2, None, None):
        problems.append(f"the rekey is not over: {bundle['threshold']} of {len(bundle['shares'])} unseal")
    seal = lab.api(lab.active(), "GET", "sys/seal-status").body
    if (seal["t"], seal["n"]) != (bundle["threshold"], len(bundle["shares"])):
        problems.append(f"the server is unsealed by {seal['t']} of {seal['n']}, and the bundle has other numbers")
    return problems + [
        f"{node} keeps another bundle" for node in lab.nodes if lab.ssh(node, f"cat {BUNDLE}", check=False) != text
    ]


def lost_host(lab: Lab) -> Sequence[str]:
    """Have a bare machine in place of a standby's, on a service that stands."""
    standing(lab)
    active = lab.active()
    lost = next(node for node in lab.nodes if node != active)
    lab.lose(lost)
    lab.install(lost)
    return ("-e", f"remove={lost}")


def _keyrings(lab: Lab, *operators: str) -> str:
    return json.dumps({"vault_cluster_gnupg_homes": [str(lab.state / "gpg" / name) for name in operators]})


CEREMONY = Walk(
    "site",
    (
        Step("deploy/vault.yml", also=("deploy/config.yml",)),
        Step("operate/unseal.yml", ("bob",)),
        Step("deploy/vault.yml", also=("deploy/config.yml",)),
    ),
    bare,
    serves,
    remedies=(Remedy("Initialise the cluster", "empty its Raft directory", lost_answer),),
)
UPGRADE = Walk(
    "upgrade-cluster",
    (Step("operate/upgrade-cluster.yml", ("alice", "bob")),),
    other_level,
    upgraded,
    load=3,
    longest_down=None,  # a node that a killed run left sealed waits for the next one, after hosts were searched for secrets
)
ALL_THREE = Step("operate/rekey.yml", ("alice", "bob", "carol"), ("-e", '{"vault_cluster_threshold": 3}'))
REKEY = Walk(
    "rekey",
    (Step("operate/rekey.yml"), Step("operate/rekey.yml", ("bob", "carol"))),
    three_of_three,
    one_set_of_keys,
    load=3,
)
REPLACE = Walk("replace-site", (Step("operate/replace-site.yml", ("alice", "bob")),), lost_host, replaced, load=2)
WALKS = {walk.name: walk for walk in (CEREMONY, UPGRADE, REKEY, REPLACE)}


def chosen(environment: str = "KILLS") -> list[Walk]:
    """Return the walks that the environment names; all of them by default."""
    names = os.environ.get(environment, "").split()
    return [WALKS[name] for name in names or WALKS]
