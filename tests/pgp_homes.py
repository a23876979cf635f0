"""GnuPG homes of a test's own, in short paths (an agent's socket has 107 characters), with agents that end with them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType


@dataclass(frozen=True)
class PgpHome:
    """One person's keyring."""

    path: Path

    @classmethod
    def create(cls) -> PgpHome:
        return cls(Path(tempfile.mkdtemp(prefix="gh-", dir="/tmp")))

    def gpg(self, *arguments: str, stdin: bytes = b"") -> bytes:
        command = ["gpg", "--homedir", str(self.path), "--batch", "--no-tty", "--quiet", "--yes", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr.decode()}"
        return done.stdout

    def make_key(
        self,
        name: str,
        *,
        algorithm: str = "ed25519",
        encryption: str | None = "cv25519",
        expire: str = "2y",
        passphrase: str = "",
        extra: tuple[str, ...] = (),
    ) -> str:
        """Make a key; return its primary fingerprint."""
        loopback = ("--pinentry-mode", "loopback", "--passphrase", passphrase, *extra)
        self.gpg(*loopback, "--quick-gen-key", f"{name} <{name}@test>", algorithm, "sign,cert", expire)
        fingerprint = self.fingerprints()[-1]
        if encryption:
            self.gpg(*loopback, "--quick-add-key", fingerprint, encryption, "encr", expire)
        return fingerprint

    def fingerprints(self) -> list[str]:
        """Return the primary fingerprints in this home."""
        lines = [line.split(":") for line in self.gpg("--list-keys", "--with-colons").decode().splitlines()]
        return [after[9] for line, after in pairwise(lines) if line[0] == "pub"]

    def export(self, file: Path, *fingerprints: str) -> Path:
        file.write_bytes(self.gpg("--armor", "--export", *fingerprints))
        return file

    def revoke(self, fingerprint: str) -> None:
        certificate = (self.path / "openpgp-revocs.d" / f"{fingerprint}.rev").read_text().replace("\n:---", "\n---")
        self.gpg("--import", stdin=certificate.encode())

    def stop_agent(self) -> None:
        subprocess.run(["gpgconf", "--homedir", str(self.path), "--kill", "all"], check=True)

    def destroy(self) -> None:
        self.stop_agent()
        shutil.rmtree(self.path, onerror=_unless_gone)


def _unless_gone(_function: object, _path: str, info: tuple[type[BaseException], BaseException, TracebackType]) -> None:
    """An agent that ends removes its own sockets, perhaps at this moment."""
    if not isinstance(info[1], FileNotFoundError):
        raise info[1]
