"""What every test needs: the package under the name by which Ansible gives it to modules."""

from __future__ import annotations

from pathlib import Path

import ansible.module_utils
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]

# AnsiballZ puts plugins/module_utils beside ansible-core's own; so do the tests (and typings/ for mypy).
ansible.module_utils.__path__.append(str(REPOSITORY / "plugins" / "module_utils"))

# The same examples in every run, and no verdict on how busy the machine is.
settings.register_profile("project", derandomize=True, deadline=None, database=None)
settings.load_profile("project")
