"""Mends of fedcloudclient, put on from outside as its modules are imported.

The releases 1.4.6 and 1.4.7 cannot use the secret management service with an access token, among other things. Each mend
below wraps one function and acts only on a result or a call that is wrong, so that with a release in which upstream has
mended it, it does nothing. `python -m fedcloudclient_mend` tells which faults the installed release shows all the same.

Python imports this at every start, through fedcloudclient_mend.pth: nothing here may be slow, or fail.
"""

from __future__ import annotations

import builtins
import os
import sys
from functools import wraps
from importlib.machinery import PathFinder, SourceFileLoader

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without the import
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType, TracebackType
    from typing import IO, Any

SECRET_SETTINGS = frozenset({"oidc_access_token", "vault_token", "locker_token", "mytoken"})


# --- what is mended --------------------------------------------------------------------------------------------------------


def mend_user_id(auth: ModuleType) -> None:
    """Have `OIDCToken.get_user_id` return the subject of the access token.

    The release returns None the first time: it decodes the token, and drops what it found. So every `fedcloud secret`
    command that has an access token dies with a TypeError.

    Args:
        auth: the module fedcloudclient.auth.
    """
    original = auth.OIDCToken.get_user_id

    @wraps(original)
    def get_user_id(self: object) -> str | None:
        found: str | None = original(self)
        return getattr(self, "user_id", None) if found is None else found

    auth.OIDCToken.get_user_id = get_user_id


def mend_saved_settings(auth: ModuleType) -> None:
    """Have the client remember the user's choices only, when a token came from oidc-agent or mytoken.

    The release saves all settings in force to ~/.config/fedcloud/config.yaml: tokens from the environment in clear, and
    each default. Saved settings win over the environment, so from then on a token that has long expired is used, and no
    variable counts any more.

    Args:
        auth: the module fedcloudclient.auth.
    """
    original = getattr(auth, "save_config", None)
    if original is None:
        return
    conf = sys.modules["fedcloudclient.conf"]  # auth has imported it

    @wraps(original)
    def save_config(filename: str, config_data: Mapping[str, Any]) -> None:
        original(filename, own_choices(config_data, conf.load_config(filename) or {}, conf.DEFAULT_SETTINGS))

    vars(auth)["save_config"] = save_config


def own_choices(settings: Mapping[str, Any], saved: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the settings in force that a user's configuration file should hold.

    Args:
        settings: all that are in force.
        saved: what the file holds already; it stays the user's.
        defaults: what the client takes where nothing is said.
    """
    passing = SECRET_SETTINGS | {name[len("FEDCLOUD_") :].lower() for name in os.environ if name.startswith("FEDCLOUD_")}
    return {
        name: value
        for name, value in settings.items()
        if name in saved or (name not in passing and value != defaults.get(name))
    }


def mend_encryption(helper: ModuleType) -> None:
    """Have `encrypt_data` leave text where the release leaves bytes, which are not JSON.

    The release stores the salt as base64 in bytes. A locker takes them, since the client sends a form there, and keeps the
    same text; anywhere else `put --encrypt-key` dies with a TypeError. What is stored is the same in both cases.

    Args:
        helper: the module fedcloudclient.secret_helper.
    """
    original = helper.encrypt_data

    @wraps(original)
    def encrypt_data(encrypt_key: str, secrets: MutableMapping[str, Any]) -> None:
        original(encrypt_key, secrets)
        for name, value in secrets.items():
            if isinstance(value, bytes):
                secrets[name] = value.decode()

    vars(helper)["encrypt_data"] = encrypt_data


def mend_binary_files(helper: ModuleType) -> None:
    """Have `get --binary-file --output-file` write its file.

    The release opens it in binary mode with an encoding, which Python always refuses. So the module is given an `open` of
    its own that forgets the encoding in that one case.

    Args:
        helper: the module fedcloudclient.secret_helper.
    """
    genuine: Callable[..., IO[Any]] = builtins.open

    @wraps(genuine)
    def open_(file: object, mode: str = "r", *arguments: object, encoding: object = None, **options: object) -> IO[Any]:
        return genuine(file, mode, *arguments, encoding=None if "b" in mode else encoding, **options)

    vars(helper)["open"] = open_


def mend_tracebacks(exception: ModuleType) -> None:
    """Have an error that the client itself raised end in its sentence, as it would for a wrong option.

    The release catches none of them at the top, so that a secret that does not exist costs the user a page of traceback.

    Args:
        exception: the module fedcloudclient.exception.
    """
    original, ours = sys.excepthook, exception.FedcloudError

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, ours):
            print(f"Error: {str(error).removeprefix('Error: ')}", file=sys.stderr)
        else:
            original(kind, error, trace)

    sys.excepthook = excepthook


MENDS: Mapping[str, Sequence[Callable[[ModuleType], None]]] = {
    "fedcloudclient.exception": (mend_tracebacks,),
    "fedcloudclient.auth": (mend_user_id, mend_saved_settings),
    "fedcloudclient.secret_helper": (mend_encryption, mend_binary_files),
}


# --- how they are put on ---------------------------------------------------------------------------------------------------


class MendingLoader(SourceFileLoader):
    """Mends a module right after it ran, before anybody takes a name from it."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, then mend it; a release in which a function has gone is left as it is."""
        super().exec_module(module)
        for mend in MENDS[module.__name__]:
            try:
                mend(module)
            except (AttributeError, KeyError) as error:
                print(f"fedcloudclient_mend: {mend.__name__} does not fit this release: {error}", file=sys.stderr)


class MendingFinder:
    """Finds the modules that are to be mended, and no others."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the module's spec with our loader; see importlib.abc.MetaPathFinder."""
        if name not in MENDS:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return None
        spec.loader = MendingLoader(spec.loader.name, spec.loader.path)
        return spec


def install() -> None:
    """Have the mends put on from now on."""
    if not any(isinstance(finder, MendingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, MendingFinder())
