# The part of ansible-core 2.19's results that this project uses; ansible-core ships no types.
from collections.abc import Mapping
from typing import Any

from ansible.playbook.task import Task

class _Host:
    def get_name(self) -> str: ...

class CallbackTaskResult:
    @property
    def host(self) -> _Host: ...
    @property
    def task(self) -> Task: ...
    @property
    def result(self) -> Mapping[str, Any]: ...
