# The part of ansible-core 2.19's AnsibleModule that this project uses; ansible-core ships no types.
from collections.abc import Mapping
from typing import Any, NoReturn

class AnsibleModule:
    params: dict[str, Any]
    check_mode: bool
    _diff: bool
    def __init__(
        self,
        argument_spec: Mapping[str, Mapping[str, Any]],
        *,
        supports_check_mode: bool = ...,
        mutually_exclusive: list[list[str]] | None = ...,
        required_together: list[list[str]] | None = ...,
        required_one_of: list[list[str]] | None = ...,
        required_if: list[tuple[str, Any, list[str]]] | None = ...,
        no_log: bool = ...,
    ) -> None: ...
    def exit_json(self, **kwargs: Any) -> NoReturn: ...
    def fail_json(self, msg: str, **kwargs: Any) -> NoReturn: ...
    def warn(self, warning: str) -> None: ...
    def get_bin_path(self, arg: str, required: bool = ..., opt_dirs: list[str] | None = ...) -> str: ...
    def run_command(self, args: list[str], **kwargs: Any) -> tuple[int, str, str]: ...
    def log(self, msg: str) -> None: ...
