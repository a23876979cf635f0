# The part of ansible-core 2.19's vars.clean that this project uses; ansible-core ships no types.
from typing import Any

def remove_internal_keys(data: dict[str, Any]) -> None: ...
