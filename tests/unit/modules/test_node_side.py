"""What runs on nodes finds Debian's python3 there, and nothing of the controller's environment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
ON_NODES = sorted(
    path.stem for path in (PLUGINS / "modules").glob("*.py") if "Runs on the controller" not in path.read_text()
)
BARE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("hvac", "requests", "dns", "jinja2", "yaml"):
            raise ModuleNotFoundError(f"{name} is not on a node")
sys.meta_path.insert(0, Refuse())
import ansible.modules, ansible.module_utils
ansible.modules.__path__.append(sys.argv[1] + "/modules")
ansible.module_utils.__path__.append(sys.argv[1] + "/module_utils")
__import__(f"ansible.modules.{sys.argv[2]}")
"""


@pytest.mark.parametrize("module", ON_NODES)
def test_a_module_that_runs_on_nodes_needs_nothing_but_the_standard_library(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BARE, PLUGINS, module], env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
