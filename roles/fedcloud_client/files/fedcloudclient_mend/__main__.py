"""Tells which of the known faults the installed fedcloudclient shows. Needs no service.

Prints a JSON object with the client's version and the faults. Exit code: 0 where there is none, 1 where there are some.
With --without-mends it looks at the release as it was published.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile
from importlib import import_module  # the client is imported once `main` has put the settings aside
from importlib.metadata import version
from pathlib import Path
from typing import Any

SUBJECT = "subject@egi.eu"


def segment(part: dict[str, str]) -> str:
    """Return a part of a JSON Web Token as it is written (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def loses_the_user() -> bool:
    """Whether an access token does not tell whose it is."""
    token = import_module("fedcloudclient.auth").OIDCToken()
    token.access_token = f"{segment({'alg': 'none', 'typ': 'JWT'})}.{segment({'sub': SUBJECT})}."
    return bool(token.get_user_id() != SUBJECT)


def cannot_encrypt() -> bool:
    """Whether an encrypted secret cannot be sent as JSON."""
    secrets: dict[str, Any] = {"name": "value"}
    import_module("fedcloudclient.secret").encrypt_data("passphrase", secrets)
    return not all(isinstance(value, str) for value in secrets.values())


def cannot_write_binary_files() -> bool:
    """Whether a binary secret cannot be written to a file."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "file")
        try:
            import_module("fedcloudclient.secret").print_value(str(file), True, base64.b64encode(b"\x00\xff").decode())
        except Exception:  # whatever the release makes of it
            return True
        return file.read_bytes() != b"\x00\xff"


def saves_tokens() -> bool:
    """Whether tokens, or defaults, get into the user's configuration file."""
    auth, conf = import_module("fedcloudclient.auth"), import_module("fedcloudclient.conf")
    if not hasattr(auth, "save_config"):
        return False
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "config.yaml")
        auth.save_config(str(file), {**conf.DEFAULT_SETTINGS, "locker_token": "token", "oidc_agent_account": "account"})
        return bool(conf.load_config(str(file)) != {"oidc_agent_account": "account"})


FAULTS = {
    "an access token does not tell whose it is": loses_the_user,
    "an encrypted secret cannot be sent": cannot_encrypt,
    "a binary secret cannot be written to a file": cannot_write_binary_files,
    "tokens are saved in the user's configuration": saves_tokens,
}


def main() -> int:
    """Print what was found, and return the exit code."""
    if "--without-mends" in sys.argv[1:]:
        sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != "MendingFinder"]
    for name in [name for name in os.environ if name.startswith("FEDCLOUD_")]:
        del os.environ[name]  # the release is looked at, not somebody's settings
    os.environ |= {"FEDCLOUD_CONFIG_FILE": os.devnull, "FEDCLOUD_LOG_FILE": os.devnull}
    faults = [fault for fault, shows in FAULTS.items() if shows()]
    print(json.dumps({"version": version("fedcloudclient"), "faults": faults}))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
