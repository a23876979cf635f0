# The part of ansible-core 2.19's DataLoader that the tests use; ansible-core ships no types.
from typing import Any

class DataLoader:
    def load_from_file(self, file_name: str, *, trusted_as_template: bool = False) -> Any: ...
