# The part of ansible-core 2.19's plugin loaders that this project uses; ansible-core ships no types.
class PluginLoader:
    def get(self, name: str) -> object: ...

filter_loader: PluginLoader
test_loader: PluginLoader
