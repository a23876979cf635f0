"""Tells a harness on standard output where a run is: `told: {json}`, a line a task that begins and a line a result."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ansible.plugins.callback import CallbackBase

if TYPE_CHECKING:
    from ansible.executor.task_result import CallbackTaskResult
    from ansible.playbook.task import Task

DOCUMENTATION = """
name: tell
type: aggregate
short_description: tells a harness where a run is
description: Prints a line for each task that begins and for each host's result, whether it changed something, and no value.
requirements: [enabled with ANSIBLE_CALLBACKS_ENABLED]
"""


class CallbackModule(CallbackBase):
    """Prints lines for `killing.Told`."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "tell"
    CALLBACK_NEEDS_ENABLED = True

    def _tell(self, **what: object) -> None:
        self._display.display("told: " + json.dumps(what))

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:
        """A task begins."""
        self._tell(event="task", name=task.get_name())

    def v2_playbook_on_handler_task_start(self, task: Task) -> None:
        """A handler begins."""
        self._tell(event="task", name=task.get_name())

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """A host is done with the task."""
        changed = bool(result.result.get("changed"))
        self._tell(event="changed" if changed else "ok", name=result.task.get_name(), host=result.host.get_name())

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """A host failed."""
        self._tell(event="failed", name=result.task.get_name(), host=result.host.get_name())
