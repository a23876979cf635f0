"""What a node really is, read on the node itself: its process, files, listener, disks. Reads only, and needs no token.

Whether a restart is pending is decided by what the process runs, never by times: at every start the unit copies what it
starts from into a directory of root's, and those copies and `/proc/PID/exe` are compared with what is on disk now.
"""

from __future__ import annotations

import grp
import hashlib
import http.client
import ipaddress
import json
import mmap
import os
import pwd
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import certificates, listeners, nft
from . import ports as tcp_ports
from .listeners import Listener

Json = dict[str, object]
Text = Callable[[Sequence[str]], str]

_SECONDS = 5.0
_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>[^}]*)\})?\s+(?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# Every answer is a 200 with a body: what the node is stands in the body.
_HEALTH = "sys/health?standbyok=true&perfstandbyok=true&sealedcode=200&uninitcode=200"


@dataclass(frozen=True)
class Node:
    """Where to look. Paths are absolute; `listen_address`, `ports` are the TLS listeners', `name` their certificate's."""

    unit: str
    other_units: tuple[str, ...]
    install_dir: Path
    binary: str
    version: str
    user: str
    started_dir: Path
    started_files: tuple[Path, ...]
    socket: Path
    name: str
    ports: tuple[int, ...]
    certificate: Path
    ca: Path
    audit_files: tuple[Path, ...]
    filesystems: tuple[Path, ...]
    commands: tuple[str, ...]
    listen_address: str = "[::]"
    cluster_port: int = 8201
    tls_files: tuple[Path, ...] = ()
    raft_log: Path | None = None
    way_back: Path | None = None
    firewall: tuple[str, str] | None = None  # name and wanted definition of our nftables table


def look(node: Node) -> Json:
    """Return all that is known of a node; what cannot be known is null."""
    units = units_of([node.unit, *node.other_units])
    unit = units[node.unit]
    pid = int(str(unit["pid"]))
    process = process_of(pid) if pid else None
    versions = versions_of(node.install_dir, node.binary, process)
    tls = tls_of(node)
    return {
        "time": time.time(),
        "units": units,
        "running": process is not None,
        "starts_at_boot": unit["enabled"] == "enabled",
        "process": process,
        "versions": versions,
        "binary": binary_of(node.install_dir / node.version / node.binary),
        "account": account_of(node.user),
        "missing_commands": [command for command in node.commands if shutil.which(command, path=_SEARCH) is None],
        "restart_pending": restart_reasons(node, unit, process, versions),
        "started_known": started_known(node),
        "way_back": node.way_back.exists() if node.way_back else None,
        "reload_pending": reload_reasons(node, tls, running=process is not None),
        "server": server_of(node.socket) if process else None,
        "ports": tcp_ports.listening(node.listen_address, [*node.ports, node.cluster_port]),
        "tls": tls,
        "tls_files": [identity_of(path) for path in node.tls_files],
        "firewall_sound": firewall_sound(*node.firewall) if node.firewall else None,
        "audit": {str(path): audit_of(path, pid) for path in node.audit_files},
        "remembers": remembers(node.raft_log) if node.raft_log else None,
        "filesystems": {str(path): filesystem_of(path) for path in node.filesystems},
        "host_swap": host_swaps(),
    }


_SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROPERTIES = {
    "LoadState": "load",
    "ActiveState": "active",
    "SubState": "sub",
    "UnitFileState": "enabled",
    "MainPID": "pid",
    "NeedDaemonReload": "need_daemon_reload",
    "NRestarts": "restarts",
    "DropInPaths": "drop_ins",
}


def run(command: Sequence[str]) -> str:
    """Return what `command` prints, or nothing where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def units_of(names: Sequence[str], runner: Text = run) -> dict[str, Json]:
    """Return the state of systemd units by name, from one call."""
    text = runner(["systemctl", "show", "--property", ",".join(_PROPERTIES), *names])
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in text.split("\n\n") if block.strip()]
    blocks += [{}] * (len(names) - len(blocks))
    states: dict[str, Json] = {}
    for name, block in zip(names, blocks, strict=False):
        state: Json = {ours: block.get(theirs, "") for theirs, ours in _PROPERTIES.items()}
        state["pid"] = int(block.get("MainPID") or 0)
        state["need_daemon_reload"] = block.get("NeedDaemonReload") == "yes"
        states[name] = state
    return states


def process_of(pid: int, proc: Path = Path("/proc")) -> Json | None:
    """Return what a process runs and may do, or None where it has ended."""
    home = proc / str(pid)
    try:
        exe = str((home / "exe").readlink())
        status = (home / "status").read_text()
        limits = (home / "limits").read_text()
        command = (home / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        ticks = int((home / "stat").read_text().rpartition(")")[2].split()[19])
        kernel = (proc / "stat").read_text().splitlines()
        booted = float(next(line.split()[1] for line in kernel if line.startswith("btime")))
    except (OSError, StopIteration, ValueError, IndexError):
        return None
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return {
        "pid": pid,
        "exe": exe.removesuffix(" (deleted)"),
        "exe_deleted": exe.endswith(" (deleted)"),
        "command": [word.decode(errors="replace") for word in command],
        "started": round(booted + ticks / os.sysconf("SC_CLK_TCK"), 2),
        "uid": int(fields.get("Uid", "-1").split()[0]),
        "memory_kb": _kilobytes(fields.get("VmRSS")),
        "swapped_kb": _kilobytes(fields.get("VmSwap")),
        "core_limit": _limit(limits, "Max core file size"),
        "open_files_limit": _limit(limits, "Max open files"),
        "swap_max": swap_max(home / "cgroup"),
    }


def _kilobytes(text: str | None) -> int:
    return int((text or "0").split()[0])


def _limit(limits: str, name: str) -> str:
    line = next((line for line in limits.splitlines() if line.startswith(name)), name + " unknown")
    return line[len(name) :].split()[0]


def swap_max(membership: Path, root: Path = Path("/sys/fs/cgroup")) -> str | None:
    """Return the swap limit of a process's cgroup ("0": none may be swapped), or None where the kernel has no such limit."""
    try:
        unified = next(line[3:] for line in membership.read_text().splitlines() if line.startswith("0::"))
        return (root / unified.strip("/") / "memory.swap.max").read_text().strip()
    except (OSError, StopIteration):
        return None


def host_swaps(swaps: Path = Path("/proc/swaps")) -> list[str]:
    """Return the swap devices and files of the host."""
    try:
        return [line.split()[0] for line in swaps.read_text().splitlines()[1:]]
    except OSError:
        return []


def versions_of(install_dir: Path, binary: str, process: Json | None) -> Json:
    """Return the versions that lie side by side, the one that `current` points to and the one that runs."""
    try:
        installed = sorted(path.parent.name for path in install_dir.glob(f"*/{binary}") if not path.parent.is_symlink())
        current: str | None = (install_dir / "current").readlink().name
    except OSError:
        installed, current = _installed(install_dir, binary), None
    running = None
    if process:
        exe = Path(str(process["exe"]))
        running = exe.parent.name if exe.parent.parent == install_dir else str(exe)
    return {"installed": installed, "current": current, "running": running}


def _installed(install_dir: Path, binary: str) -> list[str]:
    return sorted(path.parent.name for path in install_dir.glob(f"*/{binary}") if not path.parent.is_symlink())


def restart_reasons(node: Node, unit: Mapping[str, object], process: Json | None, versions: Json) -> list[str]:
    """Return why the running server is not what is on disk; empty where it is, or where none runs."""
    if process is None:
        return []
    reasons = []
    if process["exe_deleted"]:
        reasons.append(f"the binary of {versions['running']} was replaced")
    elif versions["running"] != node.version:
        reasons.append(f"it runs {versions['running']}, the inventory asks for {node.version}")
    elif versions["running"] != versions["current"]:
        reasons.append(f"it runs {versions['running']}, its next start would run {versions['current']}")
    for path in node.started_files:
        started = digest_of(node.started_dir / path.name)
        if started is None:
            reasons.append(f"nothing tells which {path} it started with")
        elif started != digest_of(path):
            reasons.append(f"{path} changed")
    if unit["need_daemon_reload"]:
        reasons.append("systemd has not read the unit again")
    return reasons


def started_known(node: Node) -> bool:
    """Tell whether there are copies of all files that the server was started with, which it may be given back."""
    return all(digest_of(node.started_dir / path.name) is not None for path in node.started_files)


def reload_reasons(node: Node, tls: Json, *, running: bool) -> list[str]:
    """Return why the running server should read its certificate again.

    The listeners' own certificate is compared with the one on disk; the certificates behind it, which Python's ssl does not
    show, by the copy of the file that the unit takes at each start and reload.
    """
    if not running:
        return []
    disk, seen = tls["file"], tls["listeners"]
    served = [each["certificate"] for each in seen] if isinstance(seen, list) else []
    if isinstance(disk, dict) and any(each and each["sha256"] != disk["sha256"] for each in served):
        return ["the listener serves another certificate than the one on disk"]
    read = digest_of(node.started_dir / node.certificate.name)
    if read is not None and read != digest_of(node.certificate):
        return ["the certificates behind the listener's own were renewed"]
    return []


def digest_of(path: Path) -> str | None:
    """Return the sha256 of a file, or None where there is none to read."""
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError:
        return None


def binary_of(path: Path) -> Json | None:
    """Return checksum, owner and mode of a binary, or None where there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return {
        "sha256": digest_of(path),
        "uid": status.st_uid,
        "gid": status.st_gid,
        "mode": f"{status.st_mode & 0o7777:04o}",
    }


def identity_of(path: Path) -> Json | None:
    """Return checksum, owner's and group's names and mode of a file, or None where there is none."""
    found = binary_of(path)
    if found is None:
        return None
    try:
        owner, group = pwd.getpwuid(int(str(found["uid"]))).pw_name, grp.getgrgid(int(str(found["gid"]))).gr_name
    except KeyError:
        owner = group = "nobody known"
    return {"sha256": found["sha256"], "owner": owner, "group": group, "mode": found["mode"]}


def firewall_sound(name: str, definition: str) -> bool | None:
    """Tell whether the live table is the wanted one; None where nft cannot tell, as on a host that has none yet."""
    try:
        table = nft.Table("inet", name)
        return nft.live(table) == nft.normalised(table, definition)
    except nft.NftError:
        return None


def remembers(log: Path) -> bool:
    """Tell whether a server's store of Raft's log was ever used: a member notes there in which term it is.

    A server that was started on an empty disk, and has not joined, has such a file with nothing in it.

    Args:
        log: `raft/raft.db` in its data directory.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        with log.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(b"CurrentTerm") >= 0
    except (FileNotFoundError, ValueError):  # none, or an empty one
        return False


def account_of(user: str, shadow: Path = Path("/etc/shadow")) -> Json | None:
    """Return home, shell and whether the password is locked (shadow(5)) of a user, or None where there is no such user."""
    try:
        entry = pwd.getpwnam(user)
        hashes = dict(line.split(":")[:2] for line in shadow.read_text().splitlines())
    except (KeyError, OSError):
        return None
    return {"home": entry.pw_dir, "shell": entry.pw_shell, "locked": hashes.get(user, "!").startswith(("!", "*"))}


def file_of(path: Path) -> Json | None:
    """Return size, age and permissions of a file, or None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return {"size": status.st_size, "modified": status.st_mtime, "mode": f"{status.st_mode & 0o7777:04o}"}


def audit_of(path: Path, pid: int, proc: Path = Path("/proc")) -> Json | None:
    """Return what `file_of` does, and whether a process has that very file open; None in place of that: nobody can tell."""
    found = file_of(path)
    if found is None:
        return None
    try:
        wanted, names = path.stat(), list((proc / str(pid) / "fd").iterdir())
    except OSError:
        return {**found, "open": None}
    return {**found, "open": any(_is_file(name, wanted) for name in names)}


def _is_file(name: Path, wanted: os.stat_result) -> bool:
    try:
        status = name.stat()
    except OSError:  # closed meanwhile, or a file that is gone
        return False
    return (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino)


def filesystem_of(path: Path) -> Json | None:
    """Return size and room of the filesystem that holds `path`, in bytes, or None where there is no such path."""
    try:
        usage, device = shutil.disk_usage(path), path.stat().st_dev
    except OSError:
        return None
    percent = round(100 * usage.free / usage.total, 1) if usage.total else 0.0
    return {"total": usage.total, "free": usage.free, "free_percent": percent, "device": device}


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float = _SECONDS) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of to a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(path: Path, question: str) -> str | None:
    """GET /v1/`question` through the Unix socket; None where there is no answer of status 200."""
    connection = UnixConnection(path)
    try:
        connection.request("GET", f"/v1/{question}", headers={"X-Vault-Request": "true"})
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
        return body if answer.status == http.client.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def server_of(path: Path, asker: Callable[[Path, str], str | None] = ask) -> Json:
    """Return what the server says of itself without a token."""
    health, seal, leader = (_decoded(asker(path, question)) for question in (_HEALTH, "sys/seal-status", "sys/leader"))
    metrics = asker(path, "sys/metrics?format=prometheus")
    return {
        "health": health,
        "seal": seal,
        "leader": leader,
        "autopilot": autopilot_from(metrics) if metrics else None,
        "applied_index": _applied_index(metrics) if metrics else None,
    }


def _decoded(text: str | None) -> Json | None:
    try:
        value = json.loads(text) if text else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def samples(metrics: str, names: Iterable[str]) -> list[tuple[str, dict[str, str], float]]:
    """Return the samples of the Prometheus text format whose metric is one of `names`."""
    wanted, found = set(names), []
    for line in metrics.splitlines():
        match = _SAMPLE.match(line)
        if match and match["name"] in wanted:
            found.append((match["name"], dict(_LABEL.findall(match["labels"] or "")), float(match["value"])))
    return found


def autopilot_from(metrics: str) -> Json | None:
    """Return what autopilot thinks of the cluster; None on a node that is not active, which knows nothing fresh of it.

    With n servers all of which vote, `failure_tolerance` is (n - 1) // 2: voters are seen without a token. Only gauges that
    autopilot sets again and again are read: one that is set at a change alone, as vault_raft_peers, expires.
    """
    names = (
        "vault_core_active",
        "vault_autopilot_healthy",
        "vault_autopilot_failure_tolerance",
        "vault_autopilot_node_healthy",
    )
    active, healthy, tolerance, node = names
    single: dict[str, float] = {}
    nodes: dict[str, bool] = {}
    for name, labels, value in samples(metrics, names):
        if name == node:
            nodes[labels.get("node_id", "")] = value == 1
        else:
            single[name] = value
    if single.get(active) != 1 or healthy not in single:
        return None
    return {
        "healthy": single[healthy] == 1,
        "failure_tolerance": int(single.get(tolerance, 0)),
        "nodes": nodes,
    }


def _applied_index(metrics: str) -> int | None:
    found = samples(metrics, ["vault_raft_storage_stats_applied_index"])
    return int(found[-1][2]) if found else None


def tls_of(node: Node) -> Json:
    """Return the certificate on disk, what each listener serves and whom the node trusts; null where there is none.

    The certificate on disk has the end of that of its file which ends first.
    """
    now = time.time()
    trust = _text(node.ca)
    address = reachable(node.listen_address)
    seen = [listeners.look(Listener(node.name, address, port, (node.name,)), trust) for port in node.ports]
    first = seen[0]
    return {
        "file": _certificate_on_disk(node.certificate, now),
        "served": first.certificate.told(now) if first.certificate else None,
        "error": first.errors.get(node.name),
        "listeners": [each.told() for each in seen],
        "authorities": list(first.authorities),
        "trust": _trust(trust, now),
    }


def reachable(listen_address: str) -> str:
    """Return where a listener on this host answers: at the address that it binds, or at 127.0.0.1 where it binds all."""
    bare = listen_address.strip("[]")
    try:
        return "127.0.0.1" if ipaddress.ip_address(bare).is_unspecified else bare
    except ValueError:  # a host's name
        return bare


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def _certificate_on_disk(path: Path, now: float) -> Json | None:
    try:
        return certificates.first(_text(path)).told(now)
    except (ValueError, IndexError):
        return None


def _trust(ca: str, now: float) -> list[Json]:
    try:
        return [certificates.read(der).told(now) for der in certificates.from_pem(ca)]
    except (ValueError, IndexError):
        return []
