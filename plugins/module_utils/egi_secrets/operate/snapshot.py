"""A snapshot of the cluster, saved on the controller and proven: a throw-away server is restored from it and unsealed.

It has the name of a snapshot, and takes the place of an older one, only once it is proven.

What was found of the real server (OpenBao 2.7.2), and leans on here:

* Only the leader streams a snapshot. It is a gzipped tar whose SHA256SUMS the server checks when it restores.
* Restoring another cluster's snapshot (`snapshot-force`) is answered 204 before it is in place: half a second later the
  database file is replaced by another one, and a server that is killed before has its old data for good. Five seconds after
  that it finds that its own key opens nothing any more, and seals itself.
* Its seal status goes on telling its own threshold until the process is restarted; after that it tells the snapshot's, and
  the shares of the cluster that the snapshot is of unseal it. It then has that cluster's id.
* A server without a TCP listener cannot be unsealed: Raft has no address.

The throw-away server runs on the controller in a directory of its own, which is removed whatever happens: by the next run
where this one was killed. The server itself, which may be unsealed, ends with the process that started it. It listens on
loopback alone, to clients that have a certificate of an authority that no longer exists, and is spoken to through a Unix
socket. With an unreachable proxy it reaches nobody either: a clone must not act for the cluster.
"""

from __future__ import annotations

import ctypes
import datetime as dt
import fcntl
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ..api import Secret
from ..bundle import Bundle
from ..errors import SecretsError
from ..products import Product
from ..reconcile.server import Server
from ..unseal import ShareBox

SUFFIX = ".snap"
_START = 20.0  # seconds for the throw-away server to answer, and to take a snapshot in
_TAKEN_IN = 5e6  # bytes of a snapshot for which it gets another second, on a slow disk
_POLL = 0.05
_OK = 200
_NO_CONTENT = 204
_LOOPBACK = "127.0.0.1"
_CHUNK = 1 << 20
_PREFIX = "snapshot-proof-"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None)


class SnapshotError(SecretsError):
    """A snapshot cannot be taken, kept, or restored."""


@dataclass(frozen=True)
class Snapshot:
    """A snapshot on the controller.

    Attributes:
        path: its file, mode 0600.
        size: bytes.
        index: last entry of Raft's log that it holds.
        sha256: of the file.
    """

    path: Path
    size: int
    index: int
    sha256: str


@dataclass(frozen=True)
class Proof:
    """How far it was proven.

    Attributes:
        opened: the restored server was unsealed, and is the cluster that the snapshot was taken of.
        missing: shares that were missing to open it.
        seconds: how long it took.
    """

    opened: bool
    missing: int
    seconds: float


class Draft:
    """A snapshot that nobody counts yet: a hidden file, locked for as long as its run lives; see `draft`."""

    def __init__(self, directory: Path, label: str) -> None:
        self._directory = directory
        self._label = label
        self._name = ""
        self._index = 0
        self.unproven = False  # it is whole, and was not kept yet
        descriptor, name = tempfile.mkstemp(prefix=f".{label}.", suffix=".new", dir=directory)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._file = os.fdopen(descriptor, "wb")
        self.path = Path(name)

    def download(self, server: Server) -> None:
        """Have the cluster's snapshot sent.

        Args:
            server: the leader's API, acting as an operator.

        Raises:
            SnapshotError: what the leader sent is no whole snapshot, or it cannot be written.
        """
        with _kept_in(self._directory):
            server.download("sys/storage/raft/snapshot", self._file)
            self._file.flush()
            os.fsync(self._file.fileno())
        self._index = index_of(self.path)
        self._name = f"{self._label}-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}{SUFFIX}"
        self.unproven = True

    def keep(self, number: int) -> Snapshot:
        """Give it the name of a snapshot, and remove the oldest ones. Only what is proven is kept.

        Args:
            number: how many of this label are kept, this one among them.

        Raises:
            SnapshotError: it cannot be kept there.
        """
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        path = self._directory / self._name
        with _kept_in(self._directory):
            self.path.replace(path)
            self.unproven = False
            for old in sorted(self._directory.glob(f"{self._label}-*{SUFFIX}"))[:-number]:
                old.unlink(missing_ok=True)
        return Snapshot(path, path.stat().st_size, self._index, digest)

    def close(self) -> None:
        """Remove it, where it was not kept."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        with suppress(OSError):
            self._file.close()


@contextmanager
def draft(directory: Path, label: str) -> Iterator[Draft]:
    """Begin a snapshot on the controller, which is removed unless it is kept; what killed runs began is removed too.

    Args:
        directory: where it goes; made 0700 where it is not there.
        label: begins the file's name.

    Raises:
        SnapshotError: it cannot be written; or what went wrong before it was kept, and that it is not there any more.
    """
    with _kept_in(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(directory.glob(f".{label}.*.new"))
        begun = Draft(directory, label)
    try:
        yield begun
    except SecretsError as error:
        if not begun.unproven:
            raise
        raise SnapshotError(f"{error} The snapshot that was taken is not proven, and is not kept in {directory}.") from None
    finally:
        begun.close()


@contextmanager
def _kept_in(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SnapshotError(
            f"The snapshot cannot be kept in {directory} ({error.strerror}): make room, or correct "
            "vault_cluster_snapshot_dir."
        ) from None


def index_of(path: Path) -> int:
    """Return the last entry of Raft's log that a snapshot holds, after checking it against its own sums.

    Raises:
        SnapshotError: it is no whole snapshot.
    """
    try:
        with tarfile.open(path, "r:gz") as archive:
            found: dict[str, str] = {}
            small: dict[str, bytes] = {}
            for member in archive:
                content = archive.extractfile(member)
                if content is None:
                    continue
                if member.name == "state.bin":
                    found[member.name] = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
                else:
                    small[member.name] = content.read(_CHUNK)
                    found[member.name] = hashlib.sha256(small[member.name]).hexdigest()
        lines = [line.split(maxsplit=1) for line in small["SHA256SUMS"].decode().splitlines()]
        sums = {name: digest for digest, name in lines}
        if any(found.get(name) != digest for name, digest in sums.items()) or "state.bin" not in sums:
            raise ValueError("its sums do not match")
        return int(json.loads(small["meta.json"])["Index"])
    except (tarfile.TarError, OSError, EOFError, KeyError, ValueError) as error:
        raise SnapshotError(
            f"What the leader sent is no whole snapshot ({error}): see its journal and its disk, and run this again."
        ) from None


@dataclass(frozen=True)
class Release:
    """A server on the controller: its binary, and which product it is."""

    product: Product
    binary: Path


def prove(release: Release, snapshot: Path, bundle: Bundle, box: ShareBox, cluster_id: str) -> Proof:
    """Restore a snapshot to a throw-away server, and open it with the shares at hand.

    Args:
        release: the server to restore it with: the one that is to run from now on, which so is seen to open the data.
        snapshot: file on the controller.
        bundle: the cluster's unseal bundle.
        box: the shares that can be decrypted at this keyboard.
        cluster_id: of the cluster that it was taken of.

    Raises:
        SnapshotError: it cannot be restored, its keys are not the bundle's, or it is another cluster.
    """
    began = time.monotonic()
    with _throw_away(release, _START + snapshot.stat().st_size / _TAKEN_IN) as server:
        server.start()
        _restore(server, snapshot)
        server.stop()
        server.start()
        status = server.ask("GET", "sys/seal-status")
        if (status["t"], status["n"]) != (bundle.threshold, len(bundle.shares)):
            raise SnapshotError(
                f"The snapshot is unsealed by {status['t']} of {status['n']} shares, and the bundle has {bundle.threshold} "
                f"of {len(bundle.shares)}: it is of another cluster, or from before a rekey. It proves nothing; nothing was "
                "changed."
            )
        missing = max(bundle.threshold - box.count, 0)
        if not missing:
            _open(server, box.open(), cluster_id)
    return Proof(not missing, missing, round(time.monotonic() - began, 1))


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, patience: float) -> None:
        super().__init__("localhost", timeout=patience)
        self._path, self._patience = path, patience

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._patience)
        self.sock.connect(str(self._path))


class _ThrowAway:
    """A server of one node in a directory of its own, which has so many seconds for each thing that it is to do."""

    def __init__(self, release: Release, directory: Path, patience: float) -> None:
        self._release = release
        self._patience = patience
        self.directory = directory
        self.database = directory / "raft/vault.db"
        self._socket = directory / "s"
        self._log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        (directory / "raft").mkdir()
        certificate, key = _certificate(directory)
        api, cluster = _free_ports()
        (directory / "server.hcl").write_text(
            f"""
disable_mlock = true
api_addr = "https://{_LOOPBACK}:{api}"
cluster_addr = "https://{_LOOPBACK}:{cluster}"
listener "unix" {{
  address = "{self._socket}"
}}
listener "tcp" {{
  address = "{_LOOPBACK}:{api}"
  cluster_address = "{_LOOPBACK}:{cluster}"
  tls_cert_file = "{certificate}"
  tls_key_file = "{key}"
  tls_client_ca_file = "{certificate}"
  tls_require_and_verify_client_cert = true
}}
storage "raft" {{
  path = "{directory / "raft"}"
  node_id = "proof"
  performance_multiplier = 1
}}
"""
        )

    def start(self) -> None:
        """Start it, and wait until it answers."""
        nowhere = f"http://{_LOOPBACK}:9"
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "TMPDIR": str(self.directory),  # it never removes the copy of a snapshot that it takes in
            "HTTP_PROXY": nowhere,
            "HTTPS_PROXY": nowhere,
            f"{self._release.product.env_prefix}_LOG_LEVEL": "warn",
        }
        self._socket.unlink(missing_ok=True)
        try:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    [self._release.binary, "server", f"-config={self.directory / 'server.hcl'}"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    start_new_session=True,  # Ctrl-C ends the play, whose end ends this server
                    preexec_fn=_end_with(os.getpid()),  # noqa: PLW1509  # a module has no threads by then
                )
        except OSError as error:
            raise SnapshotError(
                f"The controller cannot run {self._release.binary} ({error.strerror}): the proof of a snapshot needs a "
                "controller of the nodes' architecture (Linux). Run this from one."
            ) from None
        self.until(self._answers, "answer")

    def stop(self) -> None:
        """Kill it; what it has is thrown away or was written."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, token: str = "", content: Path | None = None
    ) -> dict[str, Any]:
        """Make a request through its socket.

        Raises:
            SnapshotError: it answered with an error.
        """
        status, answer = self.exchange(method, path, body, token=token, content=content)
        if not status:
            raise SnapshotError(
                f"The throw-away server that is to prove the snapshot did not answer {path.rpartition('/')[2]} within "
                f"{self._patience:.0f} s. Nothing was changed."
            )
        if status not in (_OK, _NO_CONTENT):
            reasons = "; ".join(" ".join(str(reason).split()) for reason in answer.get("errors") or []) or "without a reason"
            raise SnapshotError(
                f"The throw-away server that is to prove the snapshot refused {path.rpartition('/')[2]}: HTTP {status}, "
                f"{reasons}. Nothing was changed."
            )
        return answer

    def exchange(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, token: str = "", content: Path | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Make a request, and return its status and what it says; status 0: no answer."""
        headers = {"X-Vault-Request": "true"} | ({"X-Vault-Token": token} if token else {})
        connection = _UnixConnection(self._socket, self._patience)
        try:
            if content is not None:
                with content.open("rb") as file:
                    headers["Content-Length"] = str(content.stat().st_size)
                    connection.request(method, f"/v1/{path}", file, headers)
                    answer = connection.getresponse()
                    text = answer.read()
            else:
                connection.request(method, f"/v1/{path}", json.dumps(body) if body is not None else None, headers)
                answer = connection.getresponse()
                text = answer.read()
            parsed = json.loads(text) if text else {}
            return answer.status, parsed if isinstance(parsed, dict) else {}
        except (OSError, http.client.HTTPException, ValueError):
            return 0, {}
        finally:
            connection.close()

    def await_active(self) -> dict[str, Any]:
        """Return its health once it serves."""
        seen: dict[str, Any] = {}

        def active() -> bool:
            status, answer = self.exchange("GET", "sys/health")
            seen.update(answer)
            return status == _OK

        self.until(active, "serve")
        return seen

    def _answers(self) -> bool:
        return self.exchange("GET", "sys/seal-status")[0] == _OK

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something that the server is to do.

        Raises:
            SnapshotError: it ended instead, or did not in time.
        """
        deadline = time.monotonic() + self._patience
        while not condition():
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                last = self._log.read_text(errors="replace").strip().splitlines()[-3:]
                raise SnapshotError(
                    f"The throw-away server that is to prove the snapshot {'ended' if ended else f'did not {what}'}: "
                    f"{' | '.join(last)}. Nothing was changed."
                )
            time.sleep(_POLL)


@contextmanager
def _throw_away(release: Release, patience: float) -> Iterator[_ThrowAway]:
    _sweep(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"))
    server = None
    with _own_directory() as directory:
        try:
            server = _ThrowAway(release, directory, patience)
            yield server
        finally:
            if server is not None:
                server.stop()


@contextmanager
def _own_directory() -> Iterator[Path]:
    """Make a directory, mode 0700, and lock it for as long as it is in use, so that nobody sweeps it away."""
    while True:
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
        descriptor = os.open(directory, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if directory.exists():  # not swept before it was locked
            break
        os.close(descriptor)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)
        os.close(descriptor)


def _sweep(places: Iterable[Path]) -> None:
    """Remove what runs that were killed left of ours: nobody holds its lock any more."""
    for place in places:
        with suppress(OSError):  # not ours, in use, or gone already
            descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if os.fstat(descriptor).st_uid != os.geteuid():
                    continue
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if place.is_dir():
                    shutil.rmtree(place)
                else:
                    place.unlink()
            finally:
                os.close(descriptor)


def _end_with(parent: int) -> Callable[[], None]:
    """Return what a child does first, so that it is killed when the process that started it ends, however that ends."""

    def prepare() -> None:
        if sys.platform == "linux":
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it has ended already
                os.kill(os.getpid(), signal.SIGKILL)

    return prepare


def _restore(server: _ThrowAway, snapshot: Path) -> None:
    made = server.ask("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
    server.ask("PUT", "sys/unseal", {"key": made["keys"][0]})
    server.await_active()
    before = server.database.stat().st_ino
    server.ask("POST", "sys/storage/raft/snapshot-force", token=made["root_token"], content=snapshot)
    server.until(lambda: server.database.stat().st_ino != before, "take the snapshot in")


def _open(server: _ThrowAway, shares: list[Secret], cluster_id: str) -> None:
    for share in shares:
        server.ask("PUT", "sys/unseal", {"key": share.reveal()})
    restored = str(server.await_active().get("cluster_id") or "")
    if restored != cluster_id:
        raise SnapshotError(
            f"The restored server is cluster {restored or 'unknown'}, and the snapshot was taken of {cluster_id}: it proves "
            "nothing. Nothing was changed."
        )


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind((_LOOPBACK, 0))
        other.bind((_LOOPBACK, 0))
        return one.getsockname()[1], other.getsockname()[1]


def _certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate that signs itself, and that nobody else has the key of."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "snapshot proof")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    paths = directory / "tls.crt", directory / "tls.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    descriptor = os.open(paths[1], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
    return paths
