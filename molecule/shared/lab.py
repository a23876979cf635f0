"""The lab as the stories see it: its hosts, its operators, the API of its nodes, and playbooks that can be killed."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
# What site.yml does to the nodes, for stories without DNS.
NODES = ("deploy/vault.yml", str(PROJECT / "playbooks/deploy/config.yml"))
RECAP = re.compile(r"^(?P<host>[\w.-]+)\s+: ok=(?P<ok>\d+)\s+changed=(?P<changed>\d+)\s+unreachable=(?P<unreachable>\d+)"
                   r"\s+failed=(?P<failed>\d+)", re.MULTILINE)  # fmt: skip
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Answer:
    """What a node's API said. `status` is 0 where it said nothing in time."""

    status: int
    body: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A playbook that ended, or was killed."""

    returncode: int
    output: str = field(repr=False)

    def recap(self, what: str) -> int:
        """Return a figure of the recap (ok, changed, unreachable, failed), summed over all hosts."""
        found = list(RECAP.finditer(self.output))
        assert found, f"The run printed no recap:\n{self.output[-3000:]}"
        return sum(int(match[what]) for match in found)

    @property
    def changes(self) -> list[str]:
        """The tasks that changed something, each with the host; none where nothing was left to do."""
        task, found = "", []
        for line in self.output.splitlines():
            if header := re.match(r"(?:TASK|RUNNING HANDLER) \[(.+?)\] \*", line):
                task = header[1]
            elif host := re.match(r"changed: \[([\w.-]+)", line):
                found.append(f"{task}: {host[1]}")
        return found

    @property
    def text(self) -> str:
        """The output with each run of white space as one space: long sentences come wrapped."""
        return " ".join(self.output.split())

    @property
    def tasks(self) -> int:
        """How many tasks it ran."""
        return len(re.findall(r"^TASK \[", self.output, re.MULTILINE))


class Lab:
    """The lab that LAB_NAME and LAB_SUBNET name."""

    nodes = ("vault-iisas", "vault-infn", "vault-ifca")

    def __init__(self) -> None:
        self.name = os.environ.get("LAB_NAME", "lab")
        self.subnet = os.environ.get("LAB_SUBNET", "10.213.10")
        self.resource = f"egi-secrets-{self.name}"
        self.state = PROJECT / ".lab" / self.name
        self.inventory = PROJECT / "inventories/lab"
        others = {"ns-iisas": 20, "ns-ifca": 21, "dyndns-iisas": 22, "checkin": 30, "vm": 40, "vm-job": 41}
        spare = {"vault-cesnet": 14, "vault-lip": 15}
        hosts = dict(zip(self.nodes, range(11, 14), strict=True)) | spare | others
        self.addresses = {host: f"{self.subnet}.{last}" for host, last in hosts.items()}

    # --- playbooks -----------------------------------------------------------------------------------------------------

    def start(
        self,
        playbook: str,
        *arguments: str,
        operator: str = "alice",
        jwt: str = "",
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a playbook with one operator's keyring at the keyboard, and their access token where it is given."""
        environment = os.environ | {
            "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORCE_COLOR": "0",
            "PYTHONUNBUFFERED": "1",
            "GNUPGHOME": str(self.state / "gpg" / operator),
            "OIDC_ACCESS_TOKEN": jwt,
            "VAULT_TOKEN": "",
            **(variables or {}),
        }
        command: list[str | Path] = [Path(sys.executable).with_name("ansible-playbook"), "-i", self.inventory]
        return subprocess.Popen(
            [*command, PROJECT / "playbooks" / playbook, *arguments],
            cwd=PROJECT,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, playbook: str, *arguments: str, operator: str = "alice", jwt: str = "") -> Run:
        """Run a playbook to its end, whatever that is."""
        process = self.start(playbook, *arguments, operator=operator, jwt=jwt)
        output, _ = process.communicate()
        return Run(process.returncode, ANSI.sub("", output))

    def play(self, playbook: str, *arguments: str, operator: str = "alice", jwt: str = "") -> Run:
        """Run a playbook that must succeed."""
        run = self.run(playbook, *arguments, operator=operator, jwt=jwt)
        assert run.returncode == 0, f"{playbook} failed:\n{run.output[-6000:]}"
        return run

    def kill_at(
        self, playbook: str, wanted: Callable[[str, int], bool], *arguments: str, operator: str = "alice", jwt: str = ""
    ) -> Run:
        """Run a playbook and kill it, with all that it started on this machine, as one of its tasks begins.

        Args:
            playbook: below playbooks/.
            wanted: of a task's header and its number from 0, those that are skipped among them, whether to kill there.
            arguments: further ones for ansible-playbook.
            operator: whose keyring is at the keyboard.
            jwt: their access token.

        Returns:
            What it printed. Its return code is negative when it was killed.
        """
        # Otherwise a task's header is printed with the first result that is worth one: when it has ended on a host.
        process = self.start(
            playbook, *arguments, operator=operator, jwt=jwt, variables={"ANSIBLE_DISPLAY_SKIPPED_HOSTS": "true"}
        )
        assert process.stdout
        lines, task = [], 0
        for line in process.stdout:
            lines.append(line)
            if line.startswith(("TASK [", "RUNNING HANDLER [")):
                if wanted(line, task):
                    kill_tree(process.pid)
                    break
                task += 1
        lines += process.stdout.readlines()
        return Run(process.wait(), ANSI.sub("", "".join(lines)))

    def stand_up(self, *arguments: str) -> list[Run]:
        """Stand the service up on bare hosts as three operators do: alice, bob, alice again."""
        return [
            self.play("deploy/vault.yml", *arguments, operator="alice"),
            self.play("operate/unseal.yml", *arguments, operator="bob"),
            self.play("operate/unseal.yml", *arguments, operator="alice"),
        ]

    # --- hosts ---------------------------------------------------------------------------------------------------------

    def ssh(self, node: str, command: str, *, check: bool = True, stdin: str = "") -> str:
        """Run a shell command on a host as root, and return what it prints on standard output."""
        done = subprocess.run(
            ["ssh", "-i", self.state / "ssh/id_ed25519", "-o", f"UserKnownHostsFile={self.state / 'ssh/known_hosts'}",
             "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=5", f"root@{self.addresses[node]}", command],
            capture_output=True, text=True, check=False, input=stdin,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, f"{node}: {command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def podman(self, *arguments: str, check: bool = True, stdin: str | None = None) -> str:
        """Run podman with the lab's settings."""
        sudo = [] if os.geteuid() == 0 else ["sudo", "-E"]
        done = subprocess.run(
            [*sudo, "podman", *arguments], capture_output=True, text=True, check=False, input=stdin,
            env=os.environ | {"CONTAINERS_CONF": str(self.state / "containers.conf")},
        )  # fmt: skip
        if check:
            assert done.returncode == 0, f"podman {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def reboot(self, node: str) -> None:
        """Stop a host as a power cut does, and start it again."""
        container = f"{self.resource}-{node}"
        self.podman("kill", container)
        self.podman("start", container)
        up = "systemctl is-active multi-user.target"
        wait_for(lambda: self.ssh(node, up, check=False).strip() == "active", 180, f"{node} to boot")

    def lose(self, node: str) -> None:
        """Have a machine vanish, with its disk."""
        self.podman("rm", "--force", "--time", "0", f"{self.resource}-{node}")

    def install(self, node: str) -> None:
        """Have a bare machine where the inventory says that the host is."""
        environment = os.environ | {"LAB_HOSTS": node, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg")}
        done = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "-i", self.inventory, PROJECT / "playbooks/lab/create.yml"],
            cwd=PROJECT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:]

    def journal(self, node: str, lines: int = 40) -> str:
        """Return the end of the server's journal, for a test that fails."""
        return self.ssh(node, f"journalctl --no-pager -u openbao -n {lines}", check=False)

    # --- the API -------------------------------------------------------------------------------------------------------

    @cached_property
    def trust(self) -> ssl.SSLContext:
        """What clients trust: the lab's CA, and nothing else."""
        return ssl.create_default_context(cafile=self.state / "ca/ca.crt")

    def connect(self, node: str) -> http.client.HTTPSConnection:
        """Return a connection to a node's API over verified TLS; OSError means that there was none in 5 s."""
        raw = socket.create_connection((self.addresses[node], 8200), timeout=5)
        connection = http.client.HTTPSConnection(f"{node}.lab.test", 8200, timeout=5)
        connection.sock = self.trust.wrap_socket(raw, server_hostname=f"{node}.lab.test")
        return connection

    def api(self, node: str, method: str, path: str, body: object = None, *, token: str = "", wrap: str = "") -> Answer:
        """Ask a node's API over verified TLS; an answer of status 0 means that there was none in time.

        Args:
            node: which.
            method: GET, LIST, PUT, POST or DELETE.
            path: below /v1/.
            body: what is sent as JSON.
            token: what to act with.
            wrap: for how long the answer is to be wrapped; empty: it is not.
        """
        try:
            connection = self.connect(node)
            headers = {"X-Vault-Token": token} if token else {}
            if wrap:
                headers["X-Vault-Wrap-TTL"] = wrap
            connection.request(method, f"/v1/{path}", json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            return Answer(0)
        try:
            return Answer(answer.status, json.loads(text) if text else {})
        except ValueError:
            return Answer(answer.status, {"text": text.decode(errors="replace")})

    def active(self) -> str:
        """Return the node that leads, waiting for one."""
        found: list[str] = []

        def one_leads() -> bool:
            found[:] = [node for node in self.nodes if self.api(node, "GET", "sys/health").status == 200]
            return len(found) == 1

        wait_for(one_leads, 20, "one active node")
        return found[0]

    # --- keys ----------------------------------------------------------------------------------------------------------

    def bundle(self) -> dict[str, Any]:
        """Return the controller's copy of the unseal bundle."""
        return json.loads((self.state / "unseal-bundle.json").read_text())  # type: ignore[no-any-return]

    def decrypt(self, message: str, operator: str) -> str:
        """Decrypt a base64 PGP message with a lab operator's keyring."""
        binary = subprocess.run(["base64", "-d"], input=message.encode(), capture_output=True, check=True).stdout
        done = subprocess.run(
            ["gpg", "--homedir", self.state / "gpg" / operator, "--batch", "--quiet", "--decrypt"],
            input=binary, capture_output=True, check=True,
        )  # fmt: skip
        return done.stdout.decode().strip()

    def root_token(self) -> str:
        """Decrypt the first root token, as alice."""
        return self.decrypt(self.bundle()["root_token"]["message"], "alice")

    def clear_shares(self) -> list[str]:
        """Decrypt all shares, each with its holder's keyring; those of a rekey under way and those before it as well."""
        bundle = self.bundle()
        sets = [bundle, bundle.get("pending"), bundle.get("previous")]
        shares = [share for each in sets if each for share in each["shares"]]
        return [self.decrypt(share["message"], share["operator"]) for share in shares]

    # --- a clean slate -------------------------------------------------------------------------------------------------

    def wipe(self, *, hosts: bool = False) -> None:
        """Undo the cluster: no data, no bundle anywhere, as before the first ceremony.

        Args:
            hosts: also undo what was installed, so that the hosts are bare again.
        """
        places = "/var/lib/openbao/* /etc/openbao/unseal-bundle.json"
        after = "true"
        if hosts:
            places = (
                "/var/lib/openbao /var/log/openbao /etc/openbao /opt/openbao /etc/systemd/system/openbao.service "
                "/etc/systemd/system/nftables.service.d /etc/logrotate.d/openbao /etc/profile.d/openbao.sh"
            )
            after = "systemctl daemon-reload; nft delete table inet openbao_peers; userdel openbao"
        for node in self.nodes:
            self.ssh(
                node,
                f"systemctl disable --now openbao; systemctl reset-failed openbao; rm -rf {places}; {after}",
                check=False,
            )
        (self.state / "unseal-bundle.json").unlink(missing_ok=True)


def descendants(pid: int) -> list[int]:
    """Return a process's children and theirs, from /proc."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(words[1]), []).append(int(stat.parent.name))
    found, todo = [], [pid]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


def kill_tree(pid: int) -> None:
    """Kill a process and all that it started at once, as a power cut of the controller does."""
    stopped: set[int] = set()
    # Held still first: what is killed one by one goes on starting others.
    while fresh := {pid, *descendants(pid)} - stopped:
        for victim in fresh:
            _send(victim, signal.SIGSTOP)
        stopped |= fresh
    for victim in stopped:
        _send(victim, signal.SIGKILL)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait until a condition holds, and return how many seconds it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, f"Waited {seconds} s for {what}."
        time.sleep(0.1)
    return time.monotonic() - start


def leaks(text: str, secrets: Sequence[str]) -> list[str]:
    """Return which of the secrets a text holds, by their place in the list: a failed test must not print them."""
    return [f"secret number {number}" for number, secret in enumerate(secrets) if secret in text]
