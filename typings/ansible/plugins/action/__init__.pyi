# The part of ansible-core 2.19's ActionBase that this project uses; ansible-core ships no types.
from typing import Any

class _Task:
    args: dict[str, Any]
    check_mode: bool

class ActionBase:
    _task: _Task
    def run(self, tmp: str | None = ..., task_vars: dict[str, Any] | None = ...) -> dict[str, Any]: ...
    def _is_pipelining_enabled(self, module_style: str, wrap_async: bool = ...) -> bool: ...
    def _execute_module(
        self, *, module_name: str, module_args: dict[str, Any], task_vars: dict[str, Any]
    ) -> dict[str, Any]: ...
