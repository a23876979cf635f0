"""Loads what every worker needs before there are workers: see DOCUMENTATION."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from pathlib import Path

import ansible.module_utils
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader, test_loader

# Ansible packs our module_utils for modules, but puts them on no path for plugins that run in the controller itself.
_OURS = str(Path(__file__).resolve().parents[1] / "module_utils")
if _OURS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_OURS)

from ansible.module_utils import egi_secrets  # noqa: E402 - needs the path above

DOCUMENTATION = """
name: load_once
type: aggregate
short_description: Loads filters, tests and what our modules import once a run, not once a task and host
description:
  - Ansible forks a worker for each task on each host. The first template that a worker renders makes it import every filter
    and test plugin there is, unless the process that it was forked from has them; and that one has no reason to.
  - That is most of what a small task costs, above all with ours, which import C(cryptography). So it is with our modules
    that run on the controller, which C(plugins/action/normal.py) has the worker itself run. See C(bench/playbook.py).
  - Nothing else changes. A plugin that cannot be loaded is told of where it is used, as without this.
requirements:
  - C(callbacks_enabled = load_once) in ansible.cfg
"""


class CallbackModule(CallbackBase):
    """Prints nothing, and hears of one thing: that a playbook begins."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "load_once"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook: object) -> None:
        """Load them in this process, before its first fork.

        Args:
            playbook: the one that begins; of no matter.
        """
        # Whichever is asked for, the loader loads them all.
        filter_loader.get("bool")
        test_loader.get("defined")
        for found in pkgutil.walk_packages(egi_secrets.__path__, f"{egi_secrets.__name__}."):
            with contextlib.suppress(ImportError):
                importlib.import_module(found.name)
