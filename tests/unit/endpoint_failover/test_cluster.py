"""The checker's own side of its cluster; what a real server makes of it is in tests/integration."""

from __future__ import annotations

import itertools
import json
import ssl
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from endpoint_failover import cluster as subject
from endpoint_failover.cluster import LOGIN_LEAST, LOGIN_MOST, Cluster, stamp_of
from endpoint_failover.model import Hold, Lease, Phase, Standing, View
from endpoint_failover.wire import Reply

from tests.unit.endpoint_failover import servers
from tests.unit.endpoint_failover.servers import Authority, Behaviour, TcpServer, within
from tests.unit.endpoint_failover.sites import LIFE, NAME, SECOND, SITES, Sites, auth, name_of

ALL = tuple(SITES)
LEASE = Lease("iisas", Phase.MOVING, "infn", "ifca", "infn is down", 0.0, 1795457000.0)


def token_of(cluster: Cluster) -> str:
    return cluster.heartbeat(View()).headers["X-Vault-Token"]


# --- identity


def test_the_first_login_is_with_what_the_files_hold(sites: Sites) -> None:
    cluster = sites.cluster()
    assert token_of(cluster) == subject.NO_TOKEN  # refused, and thereby proof that requests are forwarded

    cluster.log_in(ALL)

    (request,) = sites.servers["iisas"].requests
    assert (request.method, request.path) == ("PUT", "/v1/auth/approle/login")
    assert request.json == {"role_id": "role-id-of-the-test", "secret_id": "secret-id-of-the-test"}
    assert "x-vault-token" not in request.headers
    assert (token_of(cluster), cluster.trouble) == ("s.first", "")


def test_the_token_is_kept_for_the_next_run_and_for_nobody_else(sites: Sites) -> None:
    sites.cluster().log_in(ALL)
    file = sites.settings.state_dir / "token.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    again = sites.cluster()
    again.log_in(ALL)
    assert (token_of(again), len(sites.asked("login"))) == ("s.first", 1)
    assert "s.first" not in repr(again._token)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"value": "s.x"}', '{"value": "x", "renew_at": "y"}', "\0"])
def test_a_token_file_that_is_none_means_a_new_login(sites: Sites, content: str) -> None:
    (sites.settings.state_dir / "token.json").write_text(content)
    cluster = sites.cluster()
    cluster.log_in(ALL)
    assert token_of(cluster) == "s.first"


def test_a_token_is_renewed_at_half_its_life_and_not_before(sites: Sites) -> None:
    cluster = sites.cluster()
    cluster.log_in(ALL)
    sites.now += LIFE / 2 - 1
    cluster.log_in(ALL)
    assert sites.asked("renew-self") == []

    sites.now += 2
    cluster.log_in(ALL)
    cluster.log_in(ALL)
    assert (sites.asked("renew-self"), sites.asked("login")) == (["iisas"], ["iisas"])


def test_a_token_that_cannot_live_longer_is_replaced_in_time(sites: Sites) -> None:
    cluster = sites.cluster()
    cluster.log_in(ALL)
    sites.answers["auth/token/renew-self"] = (200, auth("s.first", LIFE / 4))
    sites.answers["auth/approle/login"] = (200, auth("s.second"))
    sites.now += LIFE / 2 + 1
    cluster.log_in(ALL)
    assert token_of(cluster) == "s.second"


def test_what_keeps_a_token_from_being_replaced_is_told_for_as_long_as_it_lasts(sites: Sites) -> None:
    """The token still works for a while: time for a person to see to it."""
    cluster = sites.cluster()
    cluster.log_in(ALL)
    ends = sites.now + LIFE
    sites.answers["auth/token/renew-self"] = (200, lambda _: auth("s.first", ends - sites.now))
    sites.answers["auth/approle/login"] = (400, {"errors": ["invalid secret id"]})
    sites.now += LIFE / 2 + 1
    for _ in range(5):
        cluster.log_in(ALL)
        sites.now += 2
        assert "HTTP 400, invalid secret id" in cluster.trouble
        assert "playbooks/deploy/failover.yml" in cluster.trouble
        assert token_of(cluster) == "s.first"

    sites.answers["auth/approle/login"] = (200, auth("s.second"))
    sites.now += LIFE / 4
    cluster.log_in(ALL)
    assert (cluster.trouble, token_of(cluster)) == ("", "s.second")


def test_after_a_reboot_the_token_is_renewed_since_nobody_knows_its_age(sites: Sites) -> None:
    sites.cluster().log_in(ALL)
    sites.boot, sites.now = "another boot", 5.0
    cluster = sites.cluster()
    cluster.log_in(ALL)
    assert (len(sites.asked("renew-self")), len(sites.asked("login")), token_of(cluster)) == (1, 1, "s.first")


def test_a_token_that_ran_out_while_nobody_ran_is_replaced(sites: Sites) -> None:
    sites.cluster().log_in(ALL)
    sites.answers["auth/token/renew-self"] = (403, {"errors": ["permission denied"]})
    sites.answers["auth/approle/login"] = (200, auth("s.second"))
    for boot, later in (("this boot", 2 * LIFE), ("another boot", 5.0)):
        sites.boot, sites.now = boot, sites.now + later
        cluster = sites.cluster()
        cluster.log_in(ALL)
        assert token_of(cluster) == "s.second"


def test_a_token_that_is_refused_is_replaced_at_once(sites: Sites) -> None:
    cluster = sites.cluster()
    cluster.log_in(ALL)
    sites.now += 60
    sites.answers["auth/approle/login"] = (200, auth("s.second"))
    cluster.log_in(ALL, refused=True)
    assert (token_of(cluster), sites.asked("renew-self")) == ("s.second", [])


@pytest.mark.parametrize("login", [(200, auth("s.other")), (400, {"errors": ["invalid role or secret ID"]}), (403, {})])
def test_logins_that_do_not_help_grow_rare(sites: Sites, login: tuple[int, Any]) -> None:
    """Each that succeeds costs the cluster a lease: a policy that was taken away must not cost one a second."""
    sites.answers["auth/approle/login"] = login
    cluster = sites.cluster()
    tried = []
    for _ in range(3600):
        before = len(sites.asked("login"))
        cluster.log_in(ALL, refused=True)
        if len(sites.asked("login")) > before:
            tried.append(sites.now)
        sites.now += 1.0

    waits = [later - earlier for earlier, later in itertools.pairwise(tried)]
    assert len(tried) < 16
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (LOGIN_LEAST, LOGIN_MOST)


def test_a_cluster_that_cannot_be_reached_is_no_trouble_with_the_login_and_is_not_asked_often(
    sites: Sites,
) -> None:
    for answer in (500, 503, 429):
        sites.answers["auth/approle/login"] = (answer, {})
        cluster = sites.cluster()
        before = len(sites.asked("login"))
        for _ in range(14):
            cluster.log_in(ALL)
            sites.now += 1.0
        assert (cluster.trouble, len(sites.asked("login")) - before) == ("", len(ALL))


def test_a_renewal_that_nobody_answers_does_not_hold_up_each_check(sites: Sites) -> None:
    """Else the fence, and everything else, would be late by three time-outs a check."""
    cluster = sites.cluster()
    cluster.log_in(ALL)
    sites.now += LIFE / 2 + 1
    sites.answers["auth/token/renew-self"] = (500, {})
    for _ in range(10):
        cluster.log_in(ALL)
        sites.now += 1.0
    assert (len(sites.asked("renew-self")), token_of(cluster)) == (len(ALL), "s.first")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.unlink(), "cannot be read"),
        (lambda file: file.chmod(0o640), "mode 0640"),
        (lambda file: file.chmod(0o604), "mode 0604"),
        (lambda file: file.write_text(""), "empty"),
        (lambda file: file.write_bytes(b"\xff\xfe"), "cannot be read"),
    ],
)
@pytest.mark.parametrize("file", ["role-id", "secret-id"])
def test_without_fit_files_nobody_is_asked(
    sites: Sites, tmp_path: Path, file: str, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(tmp_path / file)
    cluster = sites.cluster()
    cluster.log_in(ALL)

    assert said in cluster.trouble and str(tmp_path / file) in cluster.trouble
    assert "of-the-test" not in cluster.trouble
    assert sites.asked("login") == []


def test_a_full_disk_costs_nothing_but_the_tokens_life(sites: Sites) -> None:
    cluster = sites.cluster()
    with servers.full_disk():
        cluster.log_in(ALL)
    assert token_of(cluster) == "s.first"
    assert list(sites.settings.state_dir.iterdir()) == []


# --- through which site


def test_the_next_site_is_used_where_one_fails(sites: Sites, certified: ssl.SSLContext) -> None:
    broken = servers.answering(certified, lambda _: servers.http(500, {"errors": ["no leader"]}))
    for behave in (broken, servers.resetting):
        sites.servers["iisas"].behave = behave
        cluster = sites.cluster()
        cluster.log_in(ALL)
        assert token_of(cluster) == "s.first"
        (sites.settings.state_dir / "token.json").unlink()
    assert set(sites.asked("login")) >= {"infn"}
    assert "ifca" not in sites.asked("login")


def test_a_site_that_hangs_takes_one_time_out_with_all_its_names(sites: Sites, tmp_path: Path, authority: Authority) -> None:
    names = tuple(name_of(tmp_path, name, port=sites.settings.names[0].port) for name in (NAME, SECOND))
    sites.settings = replace(sites.settings, names=names)
    sites.servers["iisas"].behave = servers.silent
    with within(sites.settings.rules.timeout + 0.5):
        sites.cluster().log_in(ALL)
    assert sites.asked("login") == ["infn"]


def test_the_cluster_is_used_under_whichever_name_has_a_valid_certificate(
    sites: Sites, tmp_path: Path, authority: Authority
) -> None:
    other = name_of(tmp_path, "other.test", port=sites.settings.names[0].port)
    sites.settings = replace(sites.settings, names=(other, *sites.settings.names))
    cluster = sites.cluster()
    cluster.log_in(ALL)
    assert (token_of(cluster), sites.asked("login")) == ("s.first", ["iisas"])


def test_a_lease_is_asked_for_through_the_site_that_it_is_for_and_no_other(sites: Sites) -> None:
    path = f"operations/data/failover/lease/{NAME}"
    sites.answers[path] = (500, {})
    assert sites.cluster().write_lease(NAME, LEASE, 4, ("ifca", "infn")) == 0
    assert sites.asked(path) == ["ifca"]

    sites.answers[path] = (200, {"data": {"version": 5}})
    assert sites.cluster().write_lease(NAME, LEASE, 4, ("ifca",)) == 5
    sent = sites.servers["ifca"].requests[-1].json
    assert sent["options"] == {"cas": 4}
    assert (sent["data"]["holder"], sent["data"]["phase"], sent["data"]["target"]) == ("iisas", "moving", "ifca")


@pytest.mark.parametrize("answer", [(400, {"errors": ["check-and-set"]}), (403, {}), (200, {}), (200, "no JSON"), (404, {})])
def test_a_lease_that_was_not_surely_written_is_not_ours(sites: Sites, answer: tuple[int, Any]) -> None:
    sites.answers[f"operations/data/failover/lease/{NAME}"] = answer
    assert sites.cluster().write_lease(NAME, LEASE, 4, ("ifca",)) == 0


def test_a_view_is_published_through_the_first_site_that_takes_it(sites: Sites) -> None:
    path = "operations/data/failover/views/iisas"
    view = View({NAME: {"infn": Standing.UP, "ifca": Standing.DOUBT}})
    assert sites.cluster().publish(view, ALL) is None
    assert sites.asked(path) == list(ALL)

    sites.answers[path] = (200, {"data": {"created_time": "2026-11-23T18:00:47.25Z"}})
    assert sites.cluster().publish(view, ("ifca", "infn")) == 1795456847.25
    assert json.loads(sites.servers["ifca"].requests[-1].json["data"]["names"]) == {NAME: {"infn": "up", "ifca": "doubt"}}


@pytest.mark.parametrize(
    ("created", "stamp"),
    [
        ("2026-11-23T18:00:47Z", 1795456847.0),
        ("2026-11-23T18:00:47.5Z", 1795456847.5),
        ("2026-11-23T18:00:47.123456Z", 1795456847.123456),
        ("2026-11-23T18:00:47.123456789Z", 1795456847.123456),
        ("2026-11-23T18:00:47.12345Z", 1795456847.12345),
        ("", None),
        ("soon", None),
        (None, None),
        (7, None),
    ],
)
def test_the_clusters_clock_is_read_whichever_digits_it_shows(created: Any, stamp: float | None) -> None:
    assert stamp_of(Reply(200, json.dumps({"data": {"created_time": created}}).encode())) == stamp


# --- what others wrote


def read(sites: Sites, **keys: Any) -> Any:
    """Read what is shared, where keys below operations/data hold something; `holds` are listed."""
    sites.answers["operations/metadata/holds"] = (200, {"data": {"keys": list(keys.pop("holds", []))}})
    for key, content in keys.items():
        path = f"operations/data/{key}"
        sites.answers[path] = content if isinstance(content, tuple) else (200, kv(content))
    return sites.cluster().read_shared([NAME], ALL)


def kv(content: Any, version: int = 3) -> dict[str, Any]:
    return {"data": {"data": content, "metadata": {"version": version, "deletion_time": ""}}}


def test_views_holds_and_leases_are_read_together(sites: Sites) -> None:
    shared = read(
        sites,
        holds=["ifca"],
        **{
            "failover/views/infn": {"names": json.dumps({NAME: {"infn": "up", "ifca": "down"}})},
            f"failover/lease/{NAME}": {**vars_of(LEASE), "phase": "moving"},
            "holds/ifca": {"until": 1795457000, "by": "alice", "why": "a new disk"},
        },
    )
    assert shared.views == {"infn": (View({NAME: {"infn": Standing.UP, "ifca": Standing.DOWN}}), 3), "ifca": (None, 0)}
    assert shared.holds == {"ifca": Hold(1795457000.0, "alice", "a new disk")}
    assert shared.leases == {NAME: (LEASE, 3)}


def vars_of(lease: Lease) -> dict[str, Any]:
    return {each: getattr(lease, each) for each in ("holder", "phase", "source", "target", "why", "lock", "at")}


def test_a_hold_that_was_released_is_none(sites: Sites) -> None:
    deleted = {"data": {"data": None, "metadata": {"version": 4, "deletion_time": "2026-11-23T18:00:47Z"}}}
    assert read(sites, holds=["ifca", "infn"], **{"holds/ifca": (404, deleted)}).holds == {}


@pytest.mark.parametrize(
    ("content", "hold"),
    [
        ({}, Hold()),
        ({"until": None, "by": None, "why": None}, Hold()),
        ({"until": "1795457000"}, Hold(1795457000.0)),  # bao kv put writes texts
        ({"until": "tomorrow", "by": "alice"}, Hold(0.0, "alice")),
        ({"until": {"at": 1}}, Hold()),
        ({"until": "nan"}, Hold()),
        ({"until": "inf"}, Hold()),
        ({"until": -1}, Hold()),
        ({"until": 1795457000000}, Hold()),  # milliseconds
        ({"until": 5, "by": "a\x1b[2J\nb", "why": ["x"]}, Hold(5.0, "a [2J b", "['x']")),
    ],
)
def test_whoever_writes_a_hold_by_hand_wants_the_site_held(sites: Sites, content: Any, hold: Hold) -> None:
    assert read(sites, holds=["ifca"], **{"holds/ifca": content}).holds == {"ifca": hold}


def test_what_else_lies_among_the_holds_does_not_matter(sites: Sites) -> None:
    """A folder cannot be read as a hold; nor is there a limit to how many keys somebody puts there."""
    strange = ["folder/", "nobody", *(f"key{number}" for number in range(2000))]
    shared = read(sites, holds=[*strange, "ifca"], **{"holds/ifca": {}, "holds/folder/": (405, {})})
    assert shared is not None and shared.holds == {"ifca": Hold()}
    assert len(sites.asked("holds/")) == 1


@pytest.mark.parametrize("content", [{}, {"names": 7}, {"names": {NAME: 7}}, {"names": {NAME: {"infn": "sideways"}}}, []])
def test_a_view_that_is_not_understood_is_none_and_its_version_counts(sites: Sites, content: Any) -> None:
    shared = read(sites, **{"failover/views/infn": content})
    assert shared.views["infn"] == (None, 3)


@pytest.mark.parametrize("content", [{}, {"holder": "infn"}, {**vars_of(LEASE), "phase": "asleep"}, [], {"lock": "x"}])
def test_a_lease_that_is_not_understood_is_none_and_its_version_counts(sites: Sites, content: Any) -> None:
    assert read(sites, **{f"failover/lease/{NAME}": content}).leases[NAME] == (None, 3)


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_half_of_what_is_shared_is_nothing(sites: Sites, status: int) -> None:
    assert read(sites, **{"failover/views/ifca": (status, {})}) is None


@pytest.mark.parametrize("content", ["no JSON", [], {"data": None}, {"data": {"keys": None}}, {"data": [1]}, {"data": "x"}])
def test_answers_of_any_shape_end_no_run(sites: Sites, content: Any) -> None:
    sites.answers["operations/metadata/holds"] = (200, content)
    sites.answers["operations/data/failover/views/infn"] = (200, content)
    sites.answers[f"operations/data/failover/lease/{NAME}"] = (200, content)
    sites.answers["operations/data/failover/views/iisas"] = (200, content)
    sites.answers["auth/approle/login"] = (200, content)
    cluster = sites.cluster()
    cluster.log_in(ALL)
    cluster.read_shared([NAME], ALL)
    assert cluster.publish(View(), ALL) is None
    assert cluster.write_lease(NAME, LEASE, 0, ALL) == 0
    assert token_of(cluster) == subject.NO_TOKEN


def test_reading_takes_one_time_out_a_site_where_all_go_silent_half_way(sites: Sites, certified: ssl.SSLContext) -> None:
    def behave(server: TcpServer, connection: Any) -> None:
        answering: Behaviour = servers.answering(certified, sites.handle)
        (servers.silent if server.requests else answering)(server, connection)

    for server in sites.servers.values():
        server.behave = behave
    with within(len(ALL) * sites.settings.rules.timeout + 1.0):
        assert read(sites) is None
