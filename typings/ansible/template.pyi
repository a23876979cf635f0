# The part of ansible-core 2.19's Templar that the tests use; ansible-core ships no types.
from collections.abc import Mapping
from typing import Any

from .parsing.dataloader import DataLoader

class Templar:
    def __init__(self, loader: DataLoader | None = None, variables: Mapping[str, Any] | None = None) -> None: ...
    def template(self, variable: object) -> Any: ...
