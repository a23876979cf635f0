"""Run a module of plugins/modules as Ansible does: a process of its own, arguments on stdin, result on stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]

_START = """
import runpy, sys
import ansible.module_utils
from ansible.module_utils import basic
ansible.module_utils.__path__.append(sys.argv[1])
basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = sys.stdin.buffer.read(), "legacy"
runpy.run_path(sys.argv[2], run_name="__main__")
"""


@dataclass(frozen=True)
class Result:
    """A module's result, all that it printed, and its wall time in s."""

    values: dict[str, Any]
    output: str
    seconds: float

    def __getitem__(self, key: str) -> Any:
        assert key in self.values, self.output
        return self.values[key]

    @property
    def failed(self) -> bool:
        return bool(self.values.get("failed"))

    @property
    def message(self) -> str:
        return str(self.values.get("msg", ""))

    @property
    def warnings(self) -> str:
        return json.dumps(self.values.get("warnings", []))

    def succeeded(self) -> Result:
        assert not self.failed, self.output
        return self

    def refused(self) -> str:
        """Return the sentence with which it failed; a traceback is no sentence."""
        assert self.failed, self.output
        assert "Traceback" not in self.output, self.output
        return self.message


def run_module(
    name: str, *, check_mode: bool = False, environment: dict[str, str] | None = None, **arguments: Any
) -> Result:
    """Run one module to its end."""
    started = time.monotonic()
    process = start_module(name, check_mode=check_mode, environment=environment, **arguments)
    stdout, stderr = process.communicate()
    output = stdout.decode() + stderr.decode()
    try:
        values = json.loads(stdout)
    except ValueError:
        raise AssertionError(f"{name} printed no result:\n{output}") from None
    return Result(values, output, time.monotonic() - started)


def start_module(
    name: str, *, check_mode: bool = False, environment: dict[str, str] | None = None, **arguments: Any
) -> subprocess.Popen[bytes]:
    """Start one module and return its process, arguments sent."""
    given = {"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check_mode, "_ansible_diff": True}}
    process = subprocess.Popen(
        [sys.executable, "-c", _START, REPOSITORY / "plugins/module_utils", REPOSITORY / f"plugins/modules/{name}.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(given).encode())
    process.stdin.close()
    process.stdin = None  # communicate() would close it again
    return process
