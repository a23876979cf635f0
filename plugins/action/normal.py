"""Runs our modules that run on the controller in the worker that has the task, not in a process of their own.

Ansible packs a module with all that it imports, starts a shell, a Python and has it unpack, compile and import all that:
half a second of processor time on the controller for a module that then asks a server one thing. The worker is a process
for this one task, with all of it loaded (plugins/callback/load_once). Measured in bench/playbook.py.

What a module does and returns is the same: it gets its arguments and gives its result through AnsibleModule, as
ansible.netcommon's `import_modules` has it. Whatever else Ansible runs, it runs as ever: on hosts, as another user, with an
environment, in the background, with ANSIBLE_KEEP_REMOTE_FILES.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import ansible.module_utils
from ansible._internal._errors import _error_utils
from ansible.module_utils import basic
from ansible.module_utils.common.json import Direction, get_module_encoder
from ansible.plugins.loader import action_loader, module_loader
from ansible.vars.clean import remove_internal_keys

PLUGINS = Path(__file__).resolve().parents[1]
OURS = PLUGINS / "modules"
# Ansible packs our module_utils for modules, but puts them on no path for what runs in the controller itself.
if str(PLUGINS / "module_utils") not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(str(PLUGINS / "module_utils"))

# Under the name by which one would import it the loader has this file.
Normal: Any = action_loader.get("ansible.builtin.normal", class_only=True)
_PROFILE = "legacy"  # how Ansible writes arguments and results of modules that do not say otherwise


class ActionModule(Normal):  # type: ignore[misc]
    """What Ansible looks for where an action is a module and nothing else."""

    def _execute_module(
        self,
        module_name: str | None = None,
        module_args: dict[str, Any] | None = None,
        tmp: str | None = None,
        task_vars: dict[str, Any] | None = None,
        **how: bool,
    ) -> dict[str, Any]:
        name = module_name or self._task.action
        path = self._to_run_here(name)
        if path is None:
            done: dict[str, Any] = super()._execute_module(module_name, module_args, tmp, task_vars, **how)
            return done
        given = dict(self._task.args if module_args is None else module_args)
        self._update_module_args(name, given, task_vars)
        try:
            result: dict[str, Any] = self._parse_returned_data({"stdout": printed_by(path, given)}, _PROFILE)
        except Exception as error:  # a result as any, to which failed_when applies
            result = _error_utils.result_dict_from_exception(error)
        remove_internal_keys(result)
        return result

    def _to_run_here(self, name: str) -> Path | None:
        """Return where the module is, if it is one of ours and would run as this process does."""
        here = self._connection.transport == "local" and not self._connection.become
        if not here or self._task.async_val or any(self._task.environment or ()) or not self._is_pipelining_enabled("new"):
            return None
        found = module_loader.find_plugin(name)
        return Path(found) if found and Path(found).resolve().parent == OURS else None


def printed_by(path: Path, arguments: dict[str, Any]) -> str:
    """Run a module to its end in this process, which is of no further use to another.

    Args:
        path: the module's file.
        arguments: its arguments, with those of Ansible's own.

    Returns:
        What it printed: its result, as JSON.

    Raises:
        Exception: whatever it raised; a failure that it told of is a result.
    """
    encoder = get_module_encoder(_PROFILE, Direction.CONTROLLER_TO_MODULE)
    given = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}, cls=encoder).encode()
    vars(basic).update(_ANSIBLE_ARGS=given, _ANSIBLE_PROFILE=_PROFILE)  # where AnsibleModule looks before it reads its input
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit), unwinding():
        loaded(path).main()
    return printed.getvalue()


@contextlib.contextmanager
def unwinding() -> Iterator[None]:
    """Have Ctrl-C end a module as it ends a program, so that it gives logins back and removes what it made meanwhile.

    A worker would die where it stands, as it may where it only waits for a process of the module's own.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which follows from the run that waits for its workers
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def loaded(path: Path) -> ModuleType:
    """Return the module in a file as Python has it."""
    specification = importlib.util.spec_from_file_location(f"egi_secrets_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
