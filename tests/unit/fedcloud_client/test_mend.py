"""The mends of fedcloudclient: what they do to the published release, and that they leave a mended one alone."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.fedcloud_client.published import FILES, Published

LOOK = """
import runpy
runpy.run_module("fedcloudclient_mend", run_name="__main__")
"""
ENCRYPT = """
import json
from fedcloudclient.secret import encrypt_data
secrets = {"user": "ada", "password": "corréct horse"}
encrypt_data("passphrase", secrets)
# A form, as the client sends it to a locker, holds the same text for bytes.
print(json.dumps({name: value if isinstance(value, str) else value.decode() for name, value in secrets.items()}))
"""
DECRYPT = """
import json, sys
from fedcloudclient.secret import decrypt_data
secrets = json.loads(sys.argv[1])
decrypt_data("passphrase", secrets)
print(json.dumps(secrets))
"""
SAVE = """
from fedcloudclient import auth
auth.agent.get_access_token = lambda *arguments, **options: "from the agent"
token = auth.OIDCToken()
assert token.multiple_token(None, "mine", None) == "from the agent"
"""
COMMAND = """
import sys
from fedcloudclient.cli import cli
sys.argv[0] = "fedcloud"
cli()
"""


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return Published.obtain(tmp_path_factory.mktemp("home"))


@pytest.fixture
def mend(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The mends themselves, without a client."""
    spec = importlib.util.spec_from_file_location("fedcloudclient_mend", FILES / "fedcloudclient_mend/__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    yield module


def named(name: str, **members: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(members)
    return module


# --- the published release ------------------------------------------------------------------------------------------------


def test_the_release_as_published_shows_each_fault_that_is_mended(published: Published) -> None:
    """Where this fails after a change of the version, upstream has mended something: remove our mend of it."""
    done = published.try_python(LOOK, "--without-mends")
    assert json.loads(done.stdout)["faults"] == [
        "an access token does not tell whose it is",
        "an encrypted secret cannot be sent",
        "a binary secret cannot be written to a file",
        "tokens are saved in the user's configuration",
    ]
    assert done.returncode == 1


def test_no_fault_is_left_once_it_is_mended(published: Published) -> None:
    assert json.loads(published.python(LOOK)) == {"version": "1.4.7", "faults": []}


@pytest.mark.parametrize(("writer_mended", "reader_mended"), [(False, True), (True, False), (True, True)])
def test_what_one_client_encrypts_the_other_reads(published: Published, writer_mended: bool, reader_mended: bool) -> None:
    stored = published.python(ENCRYPT, mends=writer_mended)
    assert "ada" not in stored
    assert json.loads(published.python(DECRYPT, stored, mends=reader_mended)) == {"user": "ada", "password": "corréct horse"}


def test_a_token_from_the_environment_is_not_saved_beside_the_account(published: Published, tmp_path: Path) -> None:
    variables = {
        "FEDCLOUD_LOCKER_TOKEN": "s.locker",
        "FEDCLOUD_VAULT_TOKEN": "s.vault",
        "FEDCLOUD_OIDC_ACCESS_TOKEN": "eyJ",
        "FEDCLOUD_VAULT_ENDPOINT": "https://vault.test:8200",
    }
    (tmp_path / ".config/fedcloud").mkdir(parents=True)
    Published(published.environment, tmp_path).python(SAVE, variables=variables)
    assert (tmp_path / ".config/fedcloud/config.yaml").read_text() == "oidc_agent_account: mine\n"


def test_what_the_user_has_saved_stays(published: Published, tmp_path: Path) -> None:
    (tmp_path / ".config/fedcloud").mkdir(parents=True)
    own = tmp_path / ".config/fedcloud/config.yaml"
    own.write_text("mytoken: my own choice\nsite: SITE\n")
    Published(published.environment, tmp_path).python(SAVE, variables={"FEDCLOUD_SITE": "OTHER"})
    assert own.read_text() == "mytoken: my own choice\noidc_agent_account: mine\nsite: SITE\n"


def test_an_error_is_a_sentence(published: Published) -> None:
    wanted = ("secret", "get", "name", "--oidc-agent-account", "")  # no token at all
    assert "Traceback" in published.try_python(COMMAND, *wanted, mends=False).stderr
    done = published.try_python(COMMAND, *wanted)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: Can not access to the ACCESS_TOKEN")
    assert "Traceback" not in done.stderr


# --- a release that is mended, or that is another one ----------------------------------------------------------------------


def test_a_user_id_that_is_right_is_left_alone(mend: ModuleType) -> None:
    class Token:
        user_id = "another"

        def get_user_id(self) -> str:
            return "right"

    mend.mend_user_id(named("auth", OIDCToken=Token))
    assert Token().get_user_id() == "right"


def test_text_is_left_alone_by_the_mend_of_encryption(mend: ModuleType) -> None:
    def encrypt(_key: str, secrets: dict[str, object]) -> None:
        secrets.update(name="encrypted", salt="c2FsdA==", count=1)

    helper = named("secret_helper", encrypt_data=encrypt)
    mend.mend_encryption(helper)
    secrets: dict[str, object] = {"name": "clear"}
    helper.encrypt_data("passphrase", secrets)
    assert secrets == {"name": "encrypted", "salt": "c2FsdA==", "count": 1}


def test_a_text_file_keeps_its_encoding(mend: ModuleType, tmp_path: Path) -> None:
    helper = named("secret_helper")
    mend.mend_binary_files(helper)
    with helper.open(tmp_path / "file", "wt", encoding="utf-16") as file:
        file.write("é")
    assert (tmp_path / "file").read_bytes() == "é".encode("utf-16")


def test_a_release_that_saves_nothing_is_left_alone(mend: ModuleType) -> None:
    auth = named("auth")
    mend.mend_saved_settings(auth)
    assert not hasattr(auth, "save_config")


def test_a_release_without_the_function_is_imported_all_the_same(
    mend: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fedcloudclient").mkdir()
    (tmp_path / "fedcloudclient/secret_helper.py").write_text("NEW = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    mend.install()
    helper = importlib.import_module("fedcloudclient.secret_helper")
    for name in ("fedcloudclient.secret_helper", "fedcloudclient"):
        monkeypatch.delitem(sys.modules, name)
    assert helper.NEW
    assert "mend_encryption does not fit this release" in capsys.readouterr().err


def test_other_modules_are_not_touched(mend: ModuleType) -> None:
    mend.install()
    mend.install()
    assert sum(type(finder).__name__ == "MendingFinder" for finder in sys.meta_path) == 1
    assert mend.MendingFinder.find_spec("json") is None
