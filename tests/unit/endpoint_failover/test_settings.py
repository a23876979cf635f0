"""Settings that do not fit together are refused, each with a sentence that names the setting, its value and the remedy."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from endpoint_failover.errors import SettingsError
from endpoint_failover.settings import Rules, Settings, load, parse

CONTENT: dict[str, Any] = {
    "observer": "infn",
    "sites": {"iisas": {"address": "192.0.2.1"}, "infn": {"address": "192.0.2.2"}, "ifca": {"address": "192.0.2.3"}},
    "names": [
        {
            "name": "Vault.Services.test.",
            "port": 8200,
            "candidates": ["infn", "ifca"],
            "servers": [
                {"name": "primary", "address": "192.0.2.53"},
                {"name": "secondary", "address": "192.0.2.54", "port": 5353},
            ],
            "primary": "primary",
            "dyndns": {"url": "https://dyndns.test/nic/update", "host": "vault.services.test", "secret_file": "/secret"},
        }
    ],
    "cluster": {"role_id_file": "/role", "secret_id_file": "/secret-id"},
    "ca_file": "/ca.pem",
    "state_dir": "/state",
    "check": {"interval": 3, "fall": 4},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the content with one value changed: `names.0.port`; None: removed."""
    content = copy.deepcopy(CONTENT)
    *parents, last = path.split(".")
    place: Any = content
    for parent in parents:
        place = place[int(parent)] if isinstance(place, list) else place[parent]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return content


# Rules with round figures, whatever the defaults are.
BASE = Rules(retry=1.0, timeout=1.5)


def refused(content: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        parse(content)
    return str(caught.value)


def with_rule(rule: str, value: float) -> Rules:
    changes: dict[str, Any] = {rule: value}
    return dataclasses.replace(BASE, **changes)


def second_name(**changes: Any) -> list[dict[str, Any]]:
    return [CONTENT["names"][0], {**CONTENT["names"][0], **changes}]


@pytest.fixture
def settings() -> Settings:
    return parse(CONTENT)


def test_a_name_is_spelled_as_dns_spells_it(settings: Settings) -> None:
    assert settings.names[0].name == "vault.services.test"


def test_what_is_left_out_has_its_default(settings: Settings) -> None:
    assert settings.cluster.mount == "operations"
    assert [server.port for server in settings.names[0].servers] == [53, 5353]
    assert (settings.fence_file, settings.textfile) == ("", "")


def test_rules_that_are_given_take_the_place_of_defaults(settings: Settings) -> None:
    assert settings.rules == Rules(interval=3.0, fall=4)


def test_a_whole_number_does_for_seconds(settings: Settings) -> None:
    assert isinstance(settings.rules.interval, float)


def test_others_are_all_sites_but_the_observer(settings: Settings) -> None:
    assert settings.others == ("iisas", "ifca")


def test_a_site_is_found_by_its_address(settings: Settings) -> None:
    assert settings.site_of["192.0.2.3"] == "ifca"


def test_a_name_is_found_by_its_spelling(settings: Settings) -> None:
    assert settings.name("vault.services.test") is settings.names[0]


def test_settings_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(CONTENT))

    assert load(path) == parse(CONTENT)


def test_who_may_not_read_the_settings_is_told_who_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(SettingsError, match=r"settings\.json cannot be read by this user: run this as root, or as"):
        load(tmp_path / "settings.json")


@pytest.mark.parametrize("content", [None, "", '{"observer": ', b"\xff\xfe"], ids=["missing", "empty", "cut off", "no text"])
def test_a_file_that_is_no_json_is_refused_with_its_name(tmp_path: Path, content: str | bytes | None) -> None:
    path = tmp_path / "settings.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(SettingsError, match=r"settings\.json cannot be read .*: run the role endpoint_failover again\."):
        load(path)


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("observer", "cesnet", "observer is 'cesnet', and must be one of the sites ifca, iisas, infn."),
        ("observer", None, "observer is None, and must be a text."),
        ("names", [], "names is empty: there is nothing to move; name a generic name, or remove the checker."),
        ("names", "vault", "names is 'vault', and must be a list."),
        ("names", ["vault"], "names[0]: an object is wanted, not str."),
        ("names.0.port", "8200", "names[0].port is '8200', and must be a whole number."),
        ("names.0.port", True, "names[0].port is True, and must be a whole number."),
        (
            "names.0.candidates",
            ["cesnet"],
            "candidates of vault.services.test are ['cesnet'], and must be some of the sites",
        ),
        ("names.0.candidates", [], "candidates of vault.services.test are [], and must be some of the sites"),
        ("names.0.candidates", ["infn", "infn"], "and must be some of the sites ifca, iisas, infn, each once."),
        ("names.0.servers", [], "servers of vault.services.test is empty: where the name is, is asked"),
        (
            "names.0.servers.1.name",
            "primary",
            "servers of vault.services.test holds one twice: each DNS server needs a name of its own.",
        ),
        ("names.0.servers.1.port", "53", "names[0].servers[1].port is '53', and must be of type int."),
        ("names.0.servers.1.address", "", "names[0].servers[1].address is '', and must be of type str."),
        (
            "names.0.primary",
            "third",
            "primary of vault.services.test is 'third', and must be the name of one of its servers",
        ),
        (
            "names.0.dyndns.url",
            "http://dyndns.test/nic/update",
            "dyndns.url of vault.services.test is 'http://dyndns.test/nic/update', and must be https://<host>/nic/update",
        ),
        ("names.0.dyndns.url", "https:///nic/update", "and must be https://<host>/nic/update"),
        ("names.0.dyndns.url", "https://[::1/nic/update", "and must be https://<host>/nic/update"),
        ("names.0.dyndns.url", "https://dyndns.test:99999/nic/update", "and must be https://<host>/nic/update"),
        ("names.0.dyndns.url", "https://host:secret@dyndns.test/nic/update", "and never in a URL."),
        ("names.0.dyndns.secret", "s3cret", "The settings hold what nobody knows: names[0].dyndns.secret."),
        ("sites.infn.address", "2001:db8::1", "sites.infn.address is '2001:db8::1', and must be an IPv4 address"),
        ("sites.infn.address", "192.0.2.1", "Two sites have the same address: each needs its own"),
        ("sites", ["infn"], "sites is no object of site → {address}."),
        ("cluster.role_id_file", None, "cluster.role_id_file is None, and must be of type str."),
        ("check.fall", 3.5, "check.fall is 3.5, and must be of type int."),
        ("check.interval", True, "check.interval is True, and must be of type float."),
        ("check.interval", "2", "check.interval is '2', and must be of type float."),
        (
            "check",
            {"intervall": 2},
            "The settings hold what nobody knows: check.intervall. Correct the spelling",
        ),
        ("ca_file", "", "ca_file is '', and must be a text."),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(path: str, value: Any, sentence: str) -> None:
    assert sentence in refused(changed(path, value))


def test_a_name_that_is_declared_twice_is_refused() -> None:
    assert "names holds one twice (vault.services.test, vault.services.test)" in refused({**CONTENT, "names": second_name()})


def test_a_secret_in_a_url_is_not_printed() -> None:
    told = refused(changed("names.0.dyndns.url", "https://host:s3cret@dyndns.test/nic/update"))

    assert "'https://…@dyndns.test/nic/update'" in told
    assert "s3cret" not in told


def test_what_is_no_object_is_refused() -> None:
    assert refused([]) == "The settings: an object is wanted, not list."


def test_all_problems_are_told_at_once() -> None:
    told = refused({**changed("observer", "cesnet"), "names": [], "check": {"fall": 1}})

    assert len(told.splitlines()) == 3


def test_the_default_rules_fit_together() -> None:
    assert Rules().problems() == []


@pytest.mark.parametrize("rule", [each.name for each in dataclasses.fields(Rules)])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_rule_that_is_not_more_than_nothing_is_refused(rule: str, value: float) -> None:
    found = with_rule(rule, value).problems()

    assert found == [f"check.{rule} is {value}, and must be a number of more than 0."]


@pytest.mark.parametrize(
    ("rule", "least", "because"),
    [
        ("interval", 1.0, "check.retry"),
        ("idle_interval", 2.0, "check.interval"),
        ("fall", 2, "one failure is no proof"),
        ("view_ttl", 6.5, "its observer is not dead"),
        ("shared_interval", 2.0, "views are read no more often than they are written"),
        ("lease_time", 14.0, "to move a name and say so"),
        ("verify", 1.6, "the DNS servers are asked twice at least"),
        ("settle", 5.0, "notify-delay"),
        ("run_for", 75.0, "cron starts the next run after a minute"),
    ],
)
def test_a_rule_is_refused_just_below_what_the_others_need(rule: str, least: float, because: str) -> None:
    fits = with_rule(rule, least)
    less = with_rule(rule, least - 1 if rule == "fall" else least - 0.25)

    assert fits.problems() == []
    assert [because in problem and problem.startswith(f"check.{rule} is ") for problem in less.problems()] == [True]


def test_a_dns_server_that_is_waited_for_longer_than_a_site_is_refused() -> None:
    assert with_rule("dns_timeout", 1.5).problems() == []
    assert "must be at most check.timeout (1.5)" in with_rule("dns_timeout", 1.6).problems()[0]


def test_the_default_rules_send_an_update_within_ten_seconds_of_a_failure() -> None:
    assert Rules().worst_case <= 10


def test_slower_rules_have_a_later_worst_case() -> None:
    assert Rules(interval=5.0).worst_case - Rules().worst_case == pytest.approx(3.0)


def test_the_page_tells_of_each_rule_and_its_default() -> None:
    page = (Path(__file__).parents[3] / "docs" / "failover.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in page.splitlines() if line.startswith("| `")]
    told = {
        rule.strip(" `"): float(value.split()[0]) * (3600 if value.endswith(" h") else 1)
        for rules, values in rows
        for rule, value in zip(rules.split(","), values.split(", "), strict=False)
        if rule.strip(" `") in Rules.__slots__ and value[0].isdigit()
    }

    assert told == {each.name: each.default for each in dataclasses.fields(Rules)}
