"""Nobody can log in: operators make a root token from their shares in turn, while a stranger does what a stranger can."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lab import PROJECT, Lab, Run, leaks, wait_for

GENERATE, DISCARD = "operate/generate-root.yml", "operate/discard-root.yml"
FOR_ALICE = ("-e", "operator=alice")
ATTEMPT, UPDATE = "sys/generate-root/attempt", "sys/generate-root/update"
RECORD = "/etc/openbao/root-attempt.json"
# Where a secret could be left on a host. Not the server's own encrypted storage, and not what the kernel pretends.
DISKS = "/etc /var /root /home /tmp /run /opt /usr/local /srv"


def together(lab: Lab, *names: str) -> str:
    """The argument that puts several operators at one keyboard."""
    return json.dumps({"vault_cluster_gnupg_homes": [str(lab.state / "gpg" / name) for name in names]})


def standby(lab: Lab) -> str:
    active = lab.active()
    return next(node for node in lab.nodes if node != active)


def stranger_begins(lab: Lab) -> str:
    """From the network, through the door that a standby leaves ajar, with a PGP key of their own."""
    node = standby(lab)
    carols = subprocess.run(["gpg", "--dearmor"], input=(lab.state / "pgp/carol.asc").read_bytes(),
                            capture_output=True, check=True).stdout  # fmt: skip
    lab.api(node, "DELETE", ATTEMPT)
    began = lab.api(node, "PUT", ATTEMPT, {"pgp_key": base64.b64encode(carols).decode()})
    assert began.status == 200
    return str(began.body["nonce"])


def token_file(lab: Lab) -> Path:
    return lab.state / "root-token.asc"


def token_of(lab: Lab) -> str:
    done = subprocess.run(["gpg", "--homedir", lab.state / "gpg/alice", "--batch", "--quiet", "--decrypt", token_file(lab)],
                          capture_output=True, check=True)  # fmt: skip
    return done.stdout.decode().strip()


def root_tokens(lab: Lab, token: str) -> list[dict[str, Any]]:
    node = lab.active()
    accessors = lab.api(node, "LIST", "auth/token/accessors", token=token).body["data"]["keys"]
    looked = [lab.api(node, "POST", "auth/token/lookup-accessor", {"accessor": each}, token=token) for each in accessors]
    found = [answer.body["data"] for answer in looked if answer.status == 200]
    return [each for each in found if each["policies"] == ["root"]]


def records(lab: Lab) -> set[str]:
    return {lab.ssh(node, f"cat {RECORD} 2>/dev/null", check=False) for node in lab.nodes}


@dataclass(frozen=True)
class Story:
    """What the operators saw, turn after turn; `strangers` are the nonces of somebody else's attempts."""

    turns: list[Run]
    status: Run
    remembered: set[str]
    token: str
    policies: list[str]
    ended: Run
    strangers: list[str]


@pytest.fixture(scope="module")
def story(lab: Lab) -> Story:
    """At the highest verbosity anyone uses: a stranger, Bob, the stranger again, Alice, Bob, Alice."""
    strangers = [stranger_begins(lab)]
    turns = [lab.play(GENERATE, *FOR_ALICE, "-vvv", "--diff", operator="bob")]
    status = lab.run("operate/show-status.yml")
    remembered = records(lab)
    strangers.append(stranger_begins(lab))
    turns += [lab.play(GENERATE, *FOR_ALICE, "-vvv", "--diff", operator=operator) for operator in ("alice", "bob", "alice")]
    token = token_of(lab)
    known = lab.api(lab.active(), "GET", "auth/token/lookup-self", token=token).body["data"]
    ended = lab.play(DISCARD, "-vvv", "--diff", operator="alice")
    return Story(turns, status, remembered, token, known["policies"], ended, strangers)


def test_operators_in_turn_make_a_root_token(lab: Lab, story: Story) -> None:
    assert "has 1 of 2 shares. Now alice runs" in story.turns[0].text
    assert "has 1 of 2 shares. Now alice runs" in story.turns[2].text
    assert "alice has a root token until" in story.turns[3].text
    assert story.policies == ["root"]


def test_a_strangers_attempt_is_cancelled_and_told_of(story: Story) -> None:
    for turn, nonce in zip((story.turns[0], story.turns[1]), story.strangers, strict=True):
        assert "A STRANGER began the attempt" in turn.text
        assert nonce in turn.text
    assert "has 0 of 2 shares" in story.turns[1].text
    assert "STRANGER" not in story.turns[3].text


def test_the_nodes_remember_the_same_and_status_tells_of_it(story: Story) -> None:
    assert len(story.remembered) == 1
    assert json.loads(story.remembered.pop())["given"] == [2]
    assert story.status.returncode == 2
    assert "An attempt at a root token for alice is under way" in story.status.text


def test_the_token_is_gone_and_forgotten(lab: Lab, story: Story) -> None:
    assert "is revoked, and the server no longer accepts it" in story.ended.text
    assert all(lab.api(node, "GET", "auth/token/lookup-self", token=story.token).status == 403 for node in lab.nodes)
    assert not token_file(lab).exists()
    assert records(lab) == {""}


@pytest.fixture(scope="module")
def secrets(lab: Lab, story: Story) -> list[str]:
    shares = lab.clear_shares()
    return [*shares, *(base64.b64encode(bytes.fromhex(share)).decode() for share in shares), story.token]


def test_no_run_prints_a_secret(story: Story, secrets: list[str]) -> None:
    runs = [*story.turns, story.status, story.ended]
    assert [leaks(run.output, secrets) for run in runs] == [[] for _ in runs]


@pytest.mark.parametrize("node", Lab.nodes)
def test_no_host_keeps_a_secret(lab: Lab, secrets: list[str], node: str) -> None:
    # The patterns go in by standard input: on the command line they would be in the process list.
    for place in (f"grep -rlaF -f - {DISKS}", "journalctl --no-pager | grep -cF -f - | grep -v '^0$'"):
        done = lab.podman("exec", "-i", f"{lab.resource}-{node}", "sh", "-c",
                          f"cat > /dev/shm/patterns; {place.replace('-f -', '-f /dev/shm/patterns')}; rm /dev/shm/patterns",
                          stdin="\n".join(secrets) + "\n")  # fmt: skip
        assert done == ""


def test_the_controller_keeps_no_secret(lab: Lab, secrets: list[str]) -> None:
    places = [lab.state, PROJECT / ".cache" / "ansible", Path.home() / ".ansible"]
    files = [path for place in places for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [str(path) for path in files if leaks(path.read_bytes().decode(errors="replace"), secrets)] == []


@pytest.fixture
def nothing_left(lab: Lab) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Afterwards, whatever a test did: the only root token there is, is the one made to look for others."""

    def look() -> list[dict[str, Any]]:
        lab.play(GENERATE, *FOR_ALICE, "-e", together(lab, "alice", "bob"))
        found = root_tokens(lab, token_of(lab))
        lab.play(DISCARD, operator="alice")
        return found

    yield look


def test_no_root_token_is_left_over(lab: Lab, story: Story, nothing_left: Callable[[], list[dict[str, Any]]]) -> None:
    """Two at one keyboard make one to look with: there is no other, and its end is set."""
    found = nothing_left()
    assert [(token["path"], token["explicit_max_ttl"], token["renewable"]) for token in found] == [
        ("auth/token/create-orphan", 1800, False)
    ]


REFUSED = [
    (("-e", "operator=mallory"), "who is not in vault_cluster_operators"),
    ((), "operator is not given"),
    (("-e", "operator=alice", "-e", '{"vault_cluster_operators": [{"name": "alice", "pgp_key_file": "/nowhere"}]}'),
     "pgp_key_file /nowhere cannot be read"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED if os.environ.get("LONG") else REFUSED[:1])
def test_what_is_refused(lab: Lab, arguments: tuple[str, ...], sentence: str) -> None:
    run = lab.run(GENERATE, *arguments, operator="bob")
    assert run.returncode != 0
    assert sentence in run.text
    assert not lab.api(standby(lab), "GET", ATTEMPT).body["started"]


def test_without_pipelining_no_share_is_sent(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_KEEP_REMOTE_FILES", "1")
    run = lab.run(GENERATE, *FOR_ALICE, operator="bob")
    assert "Ansible would write the shares to a file on the node" in run.text
    assert lab.api(standby(lab), "GET", ATTEMPT).body["progress"] == 0
    monkeypatch.delenv("ANSIBLE_KEEP_REMOTE_FILES")
    lab.play(DISCARD, operator="bob")  # nobody's key is needed to give up


@pytest.mark.long
def test_another_node_becomes_active_between_the_turns(lab: Lab, nothing_left: Callable[[], list[dict[str, Any]]]) -> None:
    lab.play(GENERATE, *FOR_ALICE, operator="bob")
    victim = lab.active()
    lab.ssh(victim, "systemctl kill --signal=KILL openbao")
    wait_for(lambda: lab.api(victim, "GET", "sys/health").status == 503, 60, "the killed server to be back, sealed")
    lab.play("operate/unseal.yml", operator="bob")
    lab.play("operate/unseal.yml", operator="carol")
    turn = lab.play(GENERATE, *FOR_ALICE, operator="alice")
    assert "another node became active" in turn.text
    lab.play(GENERATE, *FOR_ALICE, operator="bob")
    assert "alice has a root token until" in lab.play(GENERATE, *FOR_ALICE, operator="alice").text
    lab.play(DISCARD, operator="alice")
    assert len(nothing_left()) == 1


KILLED_BEFORE = [
    "Keep on the node what runs of generate-root tell each other",
    "Exchange the token that the shares made for one that ends, or end it",
    "Say what comes next",
]


@pytest.mark.parametrize(("task", "time"), [
    pytest.param(KILLED_BEFORE[0], 1, marks=pytest.mark.long), (KILLED_BEFORE[0], 2),
    pytest.param(KILLED_BEFORE[1], 1, marks=pytest.mark.long), pytest.param(KILLED_BEFORE[0], 3, marks=pytest.mark.long),
    pytest.param(KILLED_BEFORE[2], 1, marks=pytest.mark.long),
])  # fmt: skip
def test_killed_and_run_again(lab: Lab, nothing_left: Callable[[], list[dict[str, Any]]], task: str, time: int) -> None:
    """The controller dies as a task begins, after one that changed something: the next run goes on, and nothing is left."""
    seen: list[str] = []

    def there(header: str, _: int) -> bool:
        seen.extend([header] if task in header else [])
        return len(seen) == time

    killed = lab.kill_at(GENERATE, there, *FOR_ALICE, "-e", together(lab, "alice", "bob"))
    assert killed.returncode < 0, killed.output[-3000:]
    again = lab.run(GENERATE, *FOR_ALICE, "-e", together(lab, "alice", "bob"))
    assert again.returncode == 0 or "has a root token until" in again.text, again.output[-3000:]
    lab.play(DISCARD, operator="alice")
    assert len(nothing_left()) == 1
