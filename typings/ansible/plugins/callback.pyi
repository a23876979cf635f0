# The part of ansible-core 2.19's CallbackBase that this project uses; ansible-core ships no types.
class _Display:
    def display(self, msg: str) -> None: ...

class CallbackBase:
    _display: _Display
