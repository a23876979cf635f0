# The part of ansible-core 2.19 that checks role argument specs in tests.
from collections.abc import Mapping
from typing import Any

class ValidationResult:
    error_messages: list[str]
    validated_parameters: dict[str, Any]
    unsupported_parameters: set[tuple[str, ...]]

class ArgumentSpecValidator:
    def __init__(self, argument_spec: Mapping[str, Mapping[str, Any]], **kwargs: Any) -> None: ...
    def validate(self, parameters: Mapping[str, Any]) -> ValidationResult: ...
