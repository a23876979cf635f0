"""Chooses and decrypts shares on the controller, in memory, and hands them to vault_root_attempt on the node.

An action plugin, so that no share is ever an Ansible variable, a module's result or an argument in a playbook: it exists
between gpg's pipe and the SSH connection's, in this process alone. What runs on the node gets it on its standard input.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import ansible.module_utils
from ansible.plugins.action import ActionBase

# Ansible packs our module_utils for modules, but puts them on no path for plugins that run in the controller itself.
_OURS = str(Path(__file__).resolve().parents[1] / "module_utils")
if _OURS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_OURS)

from ansible.module_utils.egi_secrets.errors import CeremonyError, SecretsError  # noqa: E402 - needs the path above
from ansible.module_utils.egi_secrets.operate import root_shares  # noqa: E402

_FOR_THE_NODE = ("socket", "attempt_path", "update_path", "timeout", "operator", "cancel")
_TOLD = ("failed", "msg", "unreachable", "changed", "nonce", "given", "message", "messages", "now", "warnings")


class ActionModule(ActionBase):
    """The controller's half of vault_root_attempt."""

    _VALID_ARGS: ClassVar[frozenset[str]] = frozenset(
        [*_FOR_THE_NODE, "records", "now", "bundle_file", "bundle", "operators", "gnupg_homes"]
    )
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run once, and return what the task returns."""
        result: dict[str, Any] = super().run(tmp, task_vars)

        def on_the_node(further: dict[str, Any]) -> dict[str, Any]:
            return self._on_the_node(further, task_vars or {})

        try:
            if self._task.args.get("cancel"):
                return result | on_the_node({})
            return result | root_shares.go_on(self._task.args, on_the_node, check_mode=self._task.check_mode)
        except SecretsError as error:
            return result | {"failed": True, "msg": str(error)}

    def _on_the_node(self, further: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if further.get("shares") and not self._is_pipelining_enabled("new"):
            raise CeremonyError(
                "Ansible would write the shares to a file on the node, since pipelining is off (ansible.cfg, "
                "ANSIBLE_PIPELINING) or ANSIBLE_KEEP_REMOTE_FILES is set: no share was sent. Turn it on, and run this again."
            )
        arguments = {name: self._task.args[name] for name in _FOR_THE_NODE if name in self._task.args}
        answer: dict[str, Any] = self._execute_module(
            module_name="vault_root_attempt", module_args={**arguments, **further}, task_vars=task_vars
        )
        return {name: answer[name] for name in _TOLD if name in answer}
