from __future__ import annotations

import datetime
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from endpoint_failover.errors import UnreachableError
from endpoint_failover.wire import LARGEST, Connection, Reply, trust

from tests.unit.endpoint_failover import servers
from tests.unit.endpoint_failover.servers import Authority, Behaviour, TcpServer, within
from tests.unit.endpoint_failover.sites import NAME

TIMEOUT = 0.3
# What a machine that is busy with other tests may add.
SLACK = 0.5
ANSWER = servers.http(200, {"well": True})


def ask(port: int, authority: Authority, *, name: str = NAME, address: str = "127.0.0.1", timeout: float = TIMEOUT) -> Reply:
    connection = Connection(address, port, name, trust(authority.ca_file), timeout)
    return connection.request("PUT", "/v1/x", {"X-Some": "thing"}, b'{"a": 1}')


def trouble(behave: Behaviour, authority: Authority) -> UnreachableError:
    with TcpServer(behave) as server, within(TIMEOUT + SLACK), pytest.raises(UnreachableError) as caught:
        ask(server.port, authority)
    return caught.value


def test_a_request_arrives_as_it_was_meant_and_so_does_the_answer(authority: Authority, certified: ssl.SSLContext) -> None:
    with TcpServer(servers.answering(certified, lambda _: servers.http(204, ""))) as server:
        assert ask(server.port, authority) == Reply(204, b"")

    request = server.requests[0]
    assert (request.method, request.path, request.json) == ("PUT", "/v1/x", {"a": 1})
    assert (request.headers["host"], request.headers["x-some"], request.headers["connection"]) == (NAME, "thing", "close")


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"Transfer-Encoding: chunked\r\n\r\n", b'6\r\n{"a": \r\n3\r\n 1}\r\n0\r\n\r\n'),
        (b"\r\n", b'{"a":  1}'),  # until the end of the connection
        (b"content-length: 9\r\n\r\n", b'{"a":  1}'),
    ],
)
def test_answers_end_in_each_way_that_http_has(
    authority: Authority, certified: ssl.SSLContext, encoding: bytes, body: bytes
) -> None:
    with TcpServer(servers.answering(certified, lambda _: b"HTTP/1.1 200 OK\r\n" + encoding + body)) as server:
        assert ask(server.port, authority).json == {"a": 1}


@pytest.mark.parametrize("body", ["", "no JSON", "[1]", "3", '"text"', "null"])
def test_what_is_no_json_object_is_an_empty_one(body: str) -> None:
    assert Reply(200, body.encode()).json == {}


@pytest.mark.parametrize(
    ("behave", "stage"),
    [
        (lambda _: servers.silent, "tls"),
        (lambda _: servers.resetting, "tls"),
        (lambda _: servers.closing, "tls"),
        (lambda _: servers.babbling, "tls"),
        (servers.half_open, "tls"),
        (lambda context: servers.half_open(context, 0.02), "tls"),
        (lambda context: servers.after_request(context, servers.never_answering), "answer"),
        (lambda context: servers.after_request(context, servers.dripping(ANSWER, 0.05)), "answer"),
        (lambda context: servers.after_request(context, servers.endless), "answer"),
        (lambda context: servers.after_request(context, servers.trickling), "answer"),
        (lambda context: servers.after_request(context, servers.cutting(b"")), "answer"),
        (lambda context: servers.after_request(context, servers.cutting(ANSWER[:-1])), "answer"),
        (lambda context: servers.after_request(context, servers.cutting(b"HTTP/1.1 200")), "answer"),
        (lambda context: servers.after_request(context, servers.cutting(b"SSH-2.0-OpenSSH_9\r\n")), "answer"),
    ],
)
def test_no_server_holds_a_request_up_and_each_is_known_by_how_far_it_came(
    authority: Authority, certified: ssl.SSLContext, behave: Callable[[ssl.SSLContext], Behaviour], stage: str
) -> None:
    error = trouble(behave(certified), authority)

    assert (error.stage, bool(error.why)) == (stage, True)


def test_a_process_that_is_stopped_still_accepts_and_is_found_out(authority: Authority) -> None:
    with servers.frozen() as port, within(TIMEOUT + SLACK), pytest.raises(UnreachableError) as caught:
        ask(port, authority)
    assert (caught.value.stage, caught.value.why) == ("tls", "no answer in time")


def test_a_host_that_drops_packets_takes_one_time_out() -> None:
    with socket.socket() as full, within(TIMEOUT + SLACK), pytest.raises(UnreachableError) as caught:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # Once the queue of connections is full, the kernel drops whoever asks for another.
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        try:
            Connection("127.0.0.1", full.getsockname()[1], NAME, ssl.create_default_context(), TIMEOUT)
        finally:
            for each in waiting:
                each.close()
    assert (caught.value.stage, caught.value.why) == ("connect", "no answer in time")


def test_a_port_where_nothing_listens_is_refused_at_once(authority: Authority) -> None:
    port = servers.free_port(["127.0.0.1"])
    with within(SLACK), pytest.raises(UnreachableError) as caught:
        ask(port, authority)
    assert (caught.value.stage, caught.value.why) == ("connect", "connection refused")


def test_a_name_that_is_none_is_no_connection(authority: Authority) -> None:
    with pytest.raises(UnreachableError) as caught:
        ask(443, authority, address=f"{'x' * 64}.test")
    assert caught.value.stage == "connect"


def test_a_resolver_that_hangs_takes_one_time_out(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object, flags: int = 0, **__: object) -> list[object]:
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        stopped.wait(servers.LONG)
        return []

    with TcpServer(servers.silent) as server:
        stopped = server.stopped
        monkeypatch.setattr(socket, "getaddrinfo", hang)
        with within(TIMEOUT + SLACK), pytest.raises(UnreachableError) as caught:
            ask(443, authority, address="dyndns.test")
    assert (caught.value.stage, caught.value.why) == ("connect", "no answer in time")


def test_all_addresses_of_a_name_are_tried_within_one_time_out(
    authority: Authority, certified: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TcpServer(servers.answering(certified, lambda _: ANSWER)) as server:
        nobody = servers.free_port(["127.0.0.1"])
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in (nobody, server.port)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert ask(443, authority, address="dyndns.test").status == 200


def test_an_answer_counts_when_it_is_complete_though_the_connection_stays_open(
    authority: Authority, certified: ssl.SSLContext
) -> None:
    for text in (ANSWER, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"):
        with TcpServer(servers.after_request(certified, servers.lingering(text))) as server:
            assert ask(server.port, authority).status == 200


def test_an_answer_may_be_as_long_as_any_that_is_expected(authority: Authority, certified: ssl.SSLContext) -> None:
    body = "x" * (LARGEST - 1024)
    with TcpServer(servers.answering(certified, lambda _: servers.http(200, body))) as server:
        assert ask(server.port, authority, timeout=5.0).body == body.encode()
    error = trouble(servers.answering(certified, lambda _: servers.http(200, "x" * LARGEST)), authority)
    assert error.why == "an answer of more than 256 kB"


# --- certificates


def test_a_certificate_that_has_run_out_is_refused(authority: Authority) -> None:
    expired = authority.context(NAME, left=datetime.timedelta(hours=-1))
    error = trouble(servers.answering(expired, lambda _: ANSWER), authority)
    assert (error.stage, error.why) == ("tls", "certificate: certificate has expired")


def test_a_certificate_for_another_name_is_refused(authority: Authority) -> None:
    other = authority.context("other.test")
    error = trouble(servers.answering(other, lambda _: ANSWER), authority)
    assert error.stage == "tls"
    assert NAME in error.why


def test_a_certificate_for_the_address_is_none_for_the_name(authority: Authority) -> None:
    other = authority.context("127.0.0.1")
    assert trouble(servers.answering(other, lambda _: ANSWER), authority).stage == "tls"


def test_a_certificate_of_another_authority_is_refused(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Authority(tmp_path_factory.mktemp("other"), "other CA").context(NAME)
    error = trouble(servers.answering(stranger, lambda _: ANSWER), authority)
    assert (error.stage, error.why) == ("tls", "certificate: unable to get local issuer certificate")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_of_before_2008_is_refused(authority: Authority) -> None:
    old = authority.context(NAME)
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    assert trouble(servers.answering(old, lambda _: ANSWER), authority).stage == "tls"


# --- what must not get into a request


def test_a_token_with_a_line_break_is_not_sent(authority: Authority, certified: ssl.SSLContext) -> None:
    with TcpServer(servers.answering(certified, lambda _: ANSWER)) as server:
        connection = Connection("127.0.0.1", server.port, NAME, trust(authority.ca_file), TIMEOUT)
        with pytest.raises(UnreachableError):
            connection.request("GET", "/v1/x", {"X-Vault-Token": "a\r\nX-Other: b"})
    assert server.requests == []


def test_no_descriptor_is_left_open(authority: Authority, certified: ssl.SSLContext) -> None:
    """A run of three minutes makes hundreds of connections, most of them while something is wrong."""
    expired = authority.context(NAME, left=datetime.timedelta(hours=-1))
    ways = [
        servers.answering(certified, lambda _: ANSWER),
        servers.answering(expired, lambda _: ANSWER),
        servers.resetting,
        servers.after_request(certified, servers.cutting(b"HTTP/1.1")),
    ]
    counts = []
    for _ in range(2):
        for behave in ways:
            with TcpServer(behave) as server:
                for _ in range(5):
                    with suppress(UnreachableError):
                        ask(server.port, authority)
        counts.append(len(list(Path(f"/proc/{os.getpid()}/fd").iterdir())))
    assert counts[1] <= counts[0]
