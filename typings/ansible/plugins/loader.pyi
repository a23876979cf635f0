# The part of ansible-core 2.19's plugin loaders that this project uses; ansible-core ships no types.
class PluginLoader:
    def get(self, name: str, *, class_only: bool = ...) -> object: ...
    def find_plugin(self, name: str) -> str | None: ...

action_loader: PluginLoader
filter_loader: PluginLoader
module_loader: PluginLoader
test_loader: PluginLoader
