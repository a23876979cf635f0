from __future__ import annotations

from collections.abc import Callable

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rrset
import pytest
from endpoint_failover import names
from endpoint_failover.model import Answer
from endpoint_failover.settings import DnsServer

from tests.unit.endpoint_failover import servers
from tests.unit.endpoint_failover.servers import Answerer, saying, within
from tests.unit.endpoint_failover.sites import NAME

TIMEOUT = 0.3
SLACK = 0.5


def ask(answer: Answerer, by_tcp: Answerer | None = None) -> Answer:
    with servers.DnsServer(answer, by_tcp) as server, within(TIMEOUT + SLACK):
        return names.ask(NAME, DnsServer("ns1", server.address, server.port), TIMEOUT)


def test_addresses_are_told_in_order_with_how_long_resolvers_keep_them() -> None:
    assert ask(saying("127.0.0.13", "127.0.0.12", ttl=37)) == Answer("ns1", ("127.0.0.12", "127.0.0.13"), ttl=37)


def test_the_question_is_for_the_servers_own_word() -> None:
    with servers.DnsServer(saying("127.0.0.12")) as server:
        for _ in range(3):
            names.ask(NAME, DnsServer("ns1", server.address, server.port), TIMEOUT)

    asked = [question for _, question in server.questions]
    assert {str(question.question[0]) for question in asked} == {f"{NAME}. IN A"}
    assert not any(question.flags & dns.flags.RD for question in asked)
    assert len({question.id for question in asked}) > 1  # nobody can guess it


@pytest.mark.parametrize("answer", [saying(), servers.refusing(dns.rcode.NXDOMAIN)])
def test_no_record_is_an_answer_and_not_an_error(answer: Answerer) -> None:
    def with_authority(question: dns.message.Message) -> dns.message.Message:
        said = answer(question)
        assert isinstance(said, dns.message.Message)
        said.flags |= dns.flags.AA
        return said

    assert ask(with_authority) == Answer("ns1")


@pytest.mark.parametrize("code", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP])
def test_a_server_that_refuses_says_nothing_of_where_the_name_is(code: dns.rcode.Rcode) -> None:
    assert ask(servers.refusing(code)) == Answer("ns1", error=dns.rcode.to_text(code))


def test_a_server_that_is_not_of_the_zone_does_not_count() -> None:
    def cached(question: dns.message.Message) -> dns.message.Message:
        said = saying("127.0.0.12")(question)
        assert isinstance(said, dns.message.Message)
        said.flags &= ~dns.flags.AA
        return said

    assert ask(cached) == Answer("ns1", error="not a server of the zone")


def test_what_does_not_fit_is_asked_again_by_tcp() -> None:
    with servers.DnsServer(servers.truncated, by_tcp=saying("127.0.0.12")) as server:
        found = names.ask(NAME, DnsServer("ns1", server.address, server.port), TIMEOUT)

    assert found.addresses == ("127.0.0.12",)
    assert [how for how, _ in server.questions] == ["udp", "tcp"]


@pytest.mark.parametrize("by_tcp", [None, servers.mute])
def test_a_server_that_does_not_answer_takes_one_time_out(by_tcp: Answerer | None) -> None:
    """By UDP and TCP together."""

    def late(question: dns.message.Message) -> dns.message.Message:
        ended.wait(TIMEOUT * 0.8)
        return servers.truncated(question)

    with servers.DnsServer(late if by_tcp else servers.mute, by_tcp) as server:
        ended = server.ended
        with within(TIMEOUT * 1.7):
            found = names.ask(NAME, DnsServer("ns1", server.address, server.port), TIMEOUT)
    assert found == Answer("ns1", error="no answer in time")


def _to_another_question(question: dns.message.Message) -> dns.message.Message:
    other = dns.message.make_query("other.test", "A")
    other.id = question.id
    said = saying("127.0.0.66")(other)
    assert isinstance(said, dns.message.Message)
    return said


def _with_another_id(question: dns.message.Message) -> dns.message.Message:
    said = saying("127.0.0.66")(question)
    assert isinstance(said, dns.message.Message)
    said.id = question.id ^ 1
    return said


@pytest.mark.parametrize(
    "answer",
    [
        _to_another_question,
        _with_another_id,
        lambda _: b"",
        lambda _: b"\0",
        lambda question: question.to_wire(),  # an echo
        lambda question: question.to_wire()[:2] + b"\xff" * 40,
        lambda question: _with_another_id(question).to_wire()[:-3],
    ],
)
def test_what_is_no_answer_to_the_question_is_none(answer: Callable[[dns.message.Message], dns.message.Message]) -> None:
    found = ask(answer)
    assert (found.addresses, bool(found.error)) == ((), True)


def test_records_of_other_names_and_kinds_do_not_count() -> None:
    def more(question: dns.message.Message) -> dns.message.Message:
        said = saying("127.0.0.12")(question)
        assert isinstance(said, dns.message.Message)
        said.answer.append(dns.rrset.from_text(question.question[0].name, 5, "IN", "TXT", "x"))
        said.answer.append(dns.rrset.from_text("other.test.", 5, "IN", "A", "127.0.0.66"))
        said.additional.append(dns.rrset.from_text(question.question[0].name, 5, "IN", "A", "127.0.0.67"))
        return said

    assert ask(more) == Answer("ns1", ("127.0.0.12",), ttl=60)


def test_an_alias_is_followed_as_far_as_the_answer_goes() -> None:
    def alias(question: dns.message.Message) -> dns.message.Message:
        said = dns.message.make_response(question)
        said.flags |= dns.flags.AA
        said.answer.append(dns.rrset.from_text(question.question[0].name, 9, "IN", "CNAME", "where.test."))
        said.answer.append(dns.rrset.from_text("where.test.", 60, "IN", "A", "127.0.0.12"))
        return said

    assert ask(alias) == Answer("ns1", ("127.0.0.12",), ttl=9)


def test_a_port_where_nothing_listens_is_no_answer() -> None:
    port = servers.free_port(["127.0.0.1"])
    with within(TIMEOUT + SLACK):
        found = names.ask(NAME, DnsServer("ns1", "127.0.0.1", port), TIMEOUT)
    assert bool(found.error)


@pytest.mark.parametrize(("name", "address"), [("x" * 64 + ".test", "127.0.0.1"), (NAME, "no address")])
def test_what_cannot_be_asked_is_an_error_and_no_end(name: str, address: str) -> None:
    with within(SLACK):
        assert names.ask(name, DnsServer("ns1", address, 53), TIMEOUT).error
