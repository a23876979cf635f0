from __future__ import annotations

import datetime
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from endpoint_failover import probe
from endpoint_failover.model import Kind
from endpoint_failover.probe import Probed, Write
from endpoint_failover.settings import Name
from endpoint_failover.wire import trust

from tests.unit.endpoint_failover import servers
from tests.unit.endpoint_failover.servers import Authority, Behaviour, Request, TcpServer, within
from tests.unit.endpoint_failover.sites import NAME, SECOND, name_of

TIMEOUT = 0.3
# A time-out, the question what the site is after it, and what a busy machine adds.
MOST = TIMEOUT + probe.HEALTH_TIMEOUT + 0.5
WRITE = Write("/v1/operations/data/failover/views/iisas", {"X-Vault-Token": "s.token"}, b'{"data": {}}')
WRITTEN = {"data": {"created_time": "2026-11-23T18:00:47.5Z", "version": 7}}
ACTIVE, STANDBY, UNINITIALISED, SEALED = 200, 429, 501, 503


def vault(context: ssl.SSLContext, *, health: int = ACTIVE, write: int = 200, content: Any = None) -> Behaviour:
    """Answer the write and the question for health with these statuses."""

    def handle(request: Request) -> bytes:
        if request.path.startswith("/v1/sys/health"):
            return servers.http(health, {"sealed": health == SEALED})
        return servers.http(write, WRITTEN if content is None and write == 200 else content or {"errors": []})

    return servers.answering(context, handle)


def hanging(context: ssl.SSLContext, health: Behaviour) -> Behaviour:
    """Take writes and never answer them; do with questions for health as told."""
    first = servers.after_request(context, servers.never_answering)

    def behave(server: TcpServer, connection: Any) -> None:
        # The write comes first; what the site is is asked afterwards.
        (first if not server.requests else health)(server, connection)

    return behave


@contextmanager
def site(*behaviours: Behaviour) -> Iterator[tuple[list[TcpServer], list[int]]]:
    """Have a site with a server for each generic name."""
    with ExitStack() as stack:
        made = [stack.enter_context(TcpServer(each)) for each in behaviours]
        yield made, [each.port for each in made]


def look(directory: Path, authority: Authority, *ports: int) -> Probed:
    names: list[Name] = [
        name_of(directory, name, port=port) for name, port in zip((NAME, SECOND)[: len(ports)], ports, strict=True)
    ]
    with within(MOST):
        return probe.probe("127.0.0.1", names, WRITE, trust(authority.ca_file), TIMEOUT)


def outcome_of(directory: Path, authority: Authority, behave: Behaviour) -> tuple[Kind, str, str]:
    with site(behave) as (_, ports):
        found = look(directory, authority, *ports).outcomes[NAME]
    return found.kind, found.role, found.why


def test_a_site_serves_where_the_write_is_committed(tmp_path: Path, authority: Authority, certified: ssl.SSLContext) -> None:
    with site(vault(certified)) as ((server,), ports):
        found = look(tmp_path, authority, *ports)

    assert (found.outcomes[NAME].kind, found.outcomes[NAME].serves) == (Kind.OK, True)
    assert 0 < found.outcomes[NAME].ms < TIMEOUT * 1000
    assert found.answer is not None and found.answer.json == WRITTEN
    request = server.requests[0]
    assert (request.method, request.path, request.headers["x-vault-token"]) == ("PUT", WRITE.path, "s.token")
    assert (request.body, len(server.requests)) == (WRITE.body, 1)


@pytest.mark.parametrize(
    ("statuses", "found"),
    [
        ((403, ACTIVE), (Kind.FORWARDED, "")),  # it reached the active node, which does not know us
        ((404, STANDBY), (Kind.FORWARDED, "")),  # the mount is gone: the active node says so
        ((503, SEALED), (Kind.LOCAL, "sealed")),
        ((503, UNINITIALISED), (Kind.LOCAL, "uninitialised")),
        ((500, STANDBY), (Kind.WRITE, "standby")),  # an election
        ((500, ACTIVE), (Kind.WRITE, "active")),  # the audit devices of the active node are full
        ((503, STANDBY), (Kind.WRITE, "standby")),
        ((307, STANDBY), (Kind.WRITE, "standby")),
        ((400, ACTIVE), (Kind.WRITE, "active")),
    ],
)
def test_what_a_write_that_is_refused_says_of_the_site(
    tmp_path: Path, authority: Authority, certified: ssl.SSLContext, statuses: tuple[int, int], found: tuple[Kind, str]
) -> None:
    write, health = statuses
    assert outcome_of(tmp_path, authority, vault(certified, health=health, write=write))[:2] == found


def test_why_a_write_was_refused_is_told(tmp_path: Path, authority: Authority, certified: ssl.SSLContext) -> None:
    refused = vault(certified, write=500, content={"errors": ["local node not active", "no leader"]})
    why = outcome_of(tmp_path, authority, refused)[2]
    assert why == "a write was refused: HTTP 500, local node not active; no leader"


@pytest.mark.parametrize("errors", [None, "text", 7, {"a": 1}, ["\x1b[2Jgone\n", None]])
def test_errors_may_be_anything_and_are_told_on_one_plain_line(
    tmp_path: Path, authority: Authority, certified: ssl.SSLContext, errors: Any
) -> None:
    kind, _, why = outcome_of(tmp_path, authority, vault(certified, write=500, content={"errors": errors}))
    assert kind is Kind.WRITE
    assert why.isprintable()


def test_a_standby_that_is_cut_off_takes_the_write_and_never_answers(
    tmp_path: Path, authority: Authority, certified: ssl.SSLContext
) -> None:
    cut_off = hanging(certified, vault(certified, health=STANDBY))
    assert outcome_of(tmp_path, authority, cut_off) == (Kind.WRITE, "standby", "a write was not answered")


def test_a_site_that_hangs_at_everything_is_at_fault_itself(
    tmp_path: Path, authority: Authority, certified: ssl.SSLContext
) -> None:
    hung = hanging(certified, servers.silent)
    assert outcome_of(tmp_path, authority, hung) == (Kind.LOCAL, "", "no answer in time")


def test_an_answer_that_drips_is_none(tmp_path: Path, authority: Authority, certified: ssl.SSLContext) -> None:
    drips = servers.after_request(certified, servers.dripping(servers.http(200, WRITTEN), 0.02))
    assert outcome_of(tmp_path, authority, drips)[0] is Kind.LOCAL


def test_a_stopped_process_and_a_closed_port_are_faults_of_the_site(tmp_path: Path, authority: Authority) -> None:
    with servers.frozen() as port:
        stopped = look(tmp_path, authority, port).outcomes[NAME]
    closed = look(tmp_path, authority, servers.free_port(["127.0.0.1"])).outcomes[NAME]

    assert (stopped.kind, stopped.why) == (Kind.LOCAL, "TLS: no answer in time")
    assert (closed.kind, closed.why) == (Kind.LOCAL, "connection refused")


# --- more than one name


def test_names_share_one_write_and_each_has_its_own_certificate(
    tmp_path: Path, authority: Authority, certified: ssl.SSLContext
) -> None:
    only_first = authority.context(NAME)
    expired = authority.context(SECOND, left=datetime.timedelta(hours=-1))
    for second, why in ((only_first, SECOND), (expired, "certificate has expired")):
        with site(vault(certified), vault(second)) as (made, ports):
            found = look(tmp_path, authority, *ports).outcomes
        assert (found[NAME].kind, found[SECOND].kind) == (Kind.OK, Kind.LOCAL)
        assert why in found[SECOND].why
        assert [request.method for server in made for request in server.requests] == ["PUT"]


def test_the_second_name_serves_where_the_first_has_no_valid_certificate(
    tmp_path: Path, authority: Authority, certified: ssl.SSLContext
) -> None:
    """Each name is moved by itself: a certificate of one must not take the other along."""
    expired = authority.context(NAME, left=datetime.timedelta(hours=-1))
    with site(vault(expired), vault(certified)) as (_, ports):
        found = look(tmp_path, authority, *ports).outcomes

    assert (found[NAME].kind, found[SECOND].kind) == (Kind.LOCAL, Kind.OK)


def test_the_second_name_is_down_where_its_port_is_closed(
    tmp_path: Path, authority: Authority, certified: ssl.SSLContext
) -> None:
    with site(vault(certified)) as (_, ports):
        found = look(tmp_path, authority, *ports, servers.free_port(["127.0.0.1"])).outcomes
    assert (found[NAME].kind, found[SECOND].kind, found[SECOND].why) == (Kind.OK, Kind.LOCAL, "connection refused")


def test_a_write_that_fails_fails_for_both_names(tmp_path: Path, authority: Authority, certified: ssl.SSLContext) -> None:
    with site(vault(certified, write=500), vault(certified)) as (_, ports):
        found = look(tmp_path, authority, *ports).outcomes
    assert (found[NAME].kind, found[SECOND].kind, found[SECOND].role) == (Kind.WRITE, Kind.WRITE, "active")


def test_a_second_name_that_hangs_takes_no_longer_and_is_down(
    tmp_path: Path, authority: Authority, certified: ssl.SSLContext
) -> None:
    hung = servers.after_request(certified, servers.never_answering)
    with site(vault(certified), hung) as (_, ports):
        found = look(tmp_path, authority, *ports).outcomes
    assert (found[NAME].kind, found[SECOND].kind) == (Kind.OK, Kind.LOCAL)


def test_a_node_that_is_sealed_is_so_under_both_names(
    tmp_path: Path, authority: Authority, certified: ssl.SSLContext
) -> None:
    with site(vault(certified, write=503, health=SEALED), vault(certified, health=SEALED)) as (_, ports):
        found = look(tmp_path, authority, *ports).outcomes
    assert {each.kind for each in found.values()} == {Kind.LOCAL}
