"""The published client in an environment of its own, as the role installs it; made once for each requirements.txt."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FILES = ROOT / "roles/fedcloud_client/files"
CACHE = ROOT / ".cache/fedcloud_client"
PREFIX = "import fedcloudclient_mend\nfedcloudclient_mend.install()\n"  # what the .pth file does on a VM


@dataclass(frozen=True)
class Published:
    """An environment that holds the release and nothing of ours.

    Args:
        environment: where it is.
        home: home of the person who uses it.
    """

    environment: Path
    home: Path

    def try_python(
        self, code: str, *arguments: str, mends: bool = True, variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a few lines of Python with the client at hand, with the mends or without."""
        return subprocess.run(
            [self.environment / "bin/python", "-c", (PREFIX if mends else "") + code, *arguments],
            env={"HOME": str(self.home), "PYTHONPATH": str(FILES), "PYTHONDONTWRITEBYTECODE": "1"} | dict(variables or {}),
            capture_output=True,
            text=True,
            check=False,
        )

    def python(self, code: str, *arguments: str, mends: bool = True, variables: Mapping[str, str] | None = None) -> str:
        """Run a few lines of Python that must not fail, and return what they print."""
        done = self.try_python(code, *arguments, mends=mends, variables=variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @classmethod
    def obtain(cls, home: Path) -> Published:
        """Return the environment, made if need be: ten seconds, and PyPI."""
        requirements = FILES / "requirements.txt"
        CACHE.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
        environment = CACHE / f"tested-{digest}"
        with (CACHE / "tested.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes may want it
            if not (environment / "complete").exists():
                tarball = CACHE / f"tested-{digest}.tar"
                glibc = platform.libc_ver()[1].rpartition(".")[2]
                tags = [f"{sys.version_info.major}.{sys.version_info.minor}", platform.machine(), glibc]
                _run(ROOT / "roles/python_environment/files/fetch-packages", sys.executable, requirements, tarball, *tags)
                _run(sys.executable, "-m", "venv", "--clear", "--without-pip", environment)
                _run("tar", "--extract", "--file", tarball, "--directory", environment)
                _run(environment / "bin/python", environment / "installer/pip", "install", "--quiet", "--no-index",
                     "--require-hashes", f"--find-links={environment}", f"--requirement={requirements}")  # fmt: skip
                tarball.unlink()
                (environment / "complete").touch()
        return cls(environment, home)


def _run(*command: str | Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
