# The part of ansible-core 2.19's error handling that this project uses, as its ActionBase does; ansible-core ships no types.
from typing import Any

def result_dict_from_exception(exception: BaseException) -> dict[str, Any]: ...
