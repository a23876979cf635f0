from __future__ import annotations

import base64
import ssl
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from endpoint_failover import __version__, dyndns
from endpoint_failover.model import Consequence, Reply
from endpoint_failover.settings import Dyndns
from endpoint_failover.wire import trust

from tests.unit.endpoint_failover import servers
from tests.unit.endpoint_failover.servers import Authority, Behaviour, TcpServer, within
from tests.unit.endpoint_failover.sites import HOST_SECRET, NAME, SITES

ADDRESS = SITES["infn"]
TIMEOUT = 0.3
SLACK = 0.5
SENT, UNCHANGED, LOCKED, RETRY, STOP = (
    Consequence.SENT,
    Consequence.UNCHANGED,
    Consequence.LOCKED,
    Consequence.RETRY,
    Consequence.STOP,
)


@pytest.fixture
def account(tmp_path: Path) -> Dyndns:
    secret = tmp_path / "host-secret"
    secret.touch(mode=0o600)
    secret.write_text(f"{HOST_SECRET}\n", encoding="ascii")
    return Dyndns("https://dyndns.test/nic/update", NAME, str(secret), address="127.0.0.1")


def update(account: Dyndns, authority: Authority, behave: Behaviour) -> tuple[Reply, TcpServer]:
    with TcpServer(behave) as server, within(TIMEOUT + SLACK):
        there = replace(account, url=account.url.replace("dyndns.test", f"dyndns.test:{server.port}"))
        reply = dyndns.update(there, ADDRESS, trust(authority.ca_file), TIMEOUT)
    assert HOST_SECRET not in reply.text
    assert base64.b64encode(f"{NAME}:{HOST_SECRET}".encode()).decode() not in reply.text
    return reply, server


def test_an_update_is_asked_for_as_the_protocol_wants_it(
    account: Dyndns, authority: Authority, certified: ssl.SSLContext
) -> None:
    reply, server = update(
        account, authority, servers.answering(certified, lambda _: servers.http(200, f"good {ADDRESS}\n"))
    )

    assert reply == Reply(SENT, f"good {ADDRESS}")
    (request,) = server.requests
    url = urlsplit(request.path)
    assert (request.method, url.path, request.body) == ("GET", "/nic/update", b"")
    assert parse_qs(url.query) == {"hostname": [NAME], "myip": [ADDRESS]}
    assert HOST_SECRET not in request.path
    assert request.headers["authorization"] == "Basic " + base64.b64encode(f"{NAME}:{HOST_SECRET}".encode()).decode()
    assert request.headers["user-agent"] == f"endpoint-failover/{__version__}"


@pytest.mark.parametrize(
    ("status", "body", "consequence"),
    [
        (200, f"good {ADDRESS}", SENT),
        (200, "good", SENT),
        (200, f" GOOD\t{ADDRESS}\r\n", SENT),
        (200, f"nochg {ADDRESS}", UNCHANGED),
        (200, "good 127.0.0.66", STOP),  # it took the address that we come from, say
        (200, "nochg 127.0.0.66", STOP),
        (200, "dnserr", LOCKED),
        (200, "911", RETRY),
        (200, "notfqdn", STOP),
        (200, "nohost", STOP),
        (200, "abuse", STOP),
        (200, "badagent", STOP),
        (200, "numhost", STOP),
        (200, "!donator", STOP),
        (200, "badsys", STOP),
        (401, "badauth", STOP),
        (401, "", STOP),
        (403, "abuse", STOP),
        (403, "<html>Forbidden</html>", STOP),
        (401, f"good {ADDRESS}", STOP),  # what refuses us has not taken anything
        (200, "", RETRY),
        (200, "<!DOCTYPE html><html><title>Log in</title></html>", RETRY),
        (200, "\0\0\0", RETRY),
        (301, "", RETRY),
        (404, "<html>Not Found</html>", RETRY),
        (429, "Too many requests", RETRY),
        (500, "<h1>Server Error (500)</h1>", RETRY),
        (502, "<html>Bad Gateway</html>", RETRY),
        (503, "", RETRY),
        (500, f"good {ADDRESS}", RETRY),  # a server that is out of order is not believed
    ],
)
def test_each_answer_has_its_own_consequence(status: int, body: str, consequence: Consequence) -> None:
    reply = dyndns.read(status, body, ADDRESS)

    assert reply.consequence is consequence
    assert reply.text.isprintable() and len(reply.text) < 200
    if consequence in (RETRY, STOP, LOCKED):
        assert f"HTTP {status}" in reply.text


def test_what_the_server_says_cannot_play_with_a_terminal() -> None:
    for body in ("\x1b[2J\x1b]0;owned\x07", f"good {ADDRESS} \x1b[2J", "nohost \x9b31m"):
        assert dyndns.read(200, body, ADDRESS).text.isprintable()


def test_a_redirection_is_not_followed(account: Dyndns, authority: Authority, certified: ssl.SSLContext) -> None:
    """It would take the host secret wherever it says."""
    with TcpServer(servers.answering(certified, lambda _: servers.http(200, f"good {ADDRESS}"))) as elsewhere:
        moved = servers.http(301, "", Location=f"https://dyndns.test:{elsewhere.port}/nic/update")
        reply, _ = update(account, authority, servers.answering(certified, lambda _: moved))
    assert reply.consequence is RETRY
    assert elsewhere.requests == []


@pytest.mark.parametrize("how", ["unknown authority", "other name", "plain HTTP"])
def test_the_host_secret_goes_to_nobody_else(
    account: Dyndns, authority: Authority, tmp_path_factory: pytest.TempPathFactory, how: str
) -> None:
    good = servers.http(200, f"good {ADDRESS}")
    other = Authority(tmp_path_factory.mktemp("other"), "other CA") if how == "unknown authority" else authority
    context = other.context("dyndns.test" if how == "unknown authority" else "evil.test")
    behave = servers.babbling if how == "plain HTTP" else servers.answering(context, lambda _: good)

    reply, server = update(account, authority, behave)

    assert (reply.consequence, server.requests) == (RETRY, [])
    assert "certificate" in reply.text or how == "plain HTTP"


def test_a_server_that_hangs_takes_one_time_out(account: Dyndns, authority: Authority, certified: ssl.SSLContext) -> None:
    drips = servers.dripping(servers.http(200, f"good {ADDRESS}"), 0.02)
    for behave in (
        servers.silent,
        servers.half_open(certified),
        servers.after_request(certified, servers.never_answering),
        servers.after_request(certified, drips),
    ):
        reply, _ = update(account, authority, behave)
        assert reply == Reply(RETRY, "the DynDNS server: no answer in time")


def test_a_server_that_is_not_there_is_tried_again(account: Dyndns, authority: Authority) -> None:
    port = servers.free_port(["127.0.0.1"])
    gone = replace(account, url=f"https://dyndns.test:{port}/nic/update")
    reply = dyndns.update(gone, ADDRESS, trust(authority.ca_file), TIMEOUT)
    assert reply == Reply(RETRY, "the DynDNS server: connection refused")


@pytest.mark.parametrize("what", ["missing", "directory", "binary"])
def test_without_a_host_secret_nothing_is_sent(
    account: Dyndns, authority: Authority, certified: ssl.SSLContext, tmp_path: Path, what: str
) -> None:
    file = tmp_path / "other"
    if what == "directory":
        file.mkdir()
    elif what == "binary":
        file.write_bytes(b"\xff\xfe\0")
    behave = servers.answering(certified, lambda _: servers.http(200, f"good {ADDRESS}"))
    reply, server = update(replace(account, secret_file=str(file)), authority, behave)

    assert (reply.consequence, server.requests) == (STOP, [])
    assert str(file) in reply.text


def test_another_secret_host_or_server_is_another_account(account: Dyndns, tmp_path: Path) -> None:
    others = [replace(account, host="other.test"), replace(account, url="https://other.test/nic/update")]
    before = dyndns.account_of(account)
    Path(account.secret_file).write_text("another", encoding="ascii")
    changed = dyndns.account_of(account)
    Path(account.secret_file).unlink()

    assert len({before, changed, dyndns.account_of(account), *map(dyndns.account_of, others)}) == 5
    assert all(len(each) == 16 for each in (before, changed))  # a fingerprint, which gives nothing away
