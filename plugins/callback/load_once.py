"""Loads what every worker needs before there are workers: see DOCUMENTATION."""

from __future__ import annotations

from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader, test_loader

DOCUMENTATION = """
name: load_once
type: aggregate
short_description: Loads filters and tests once a run, not once a task and host
description:
  - Ansible forks a worker for each task on each host. The first template that a worker renders makes it import every filter
    and test plugin there is, unless the process that it was forked from has them; and that one has no reason to.
  - That is most of what a small task costs, above all with ours, which import C(cryptography). See C(bench/playbook.py).
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
