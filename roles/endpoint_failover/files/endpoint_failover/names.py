"""Where a name is, asked of each DNS server of its zone itself: no cache has a say."""

from __future__ import annotations

import time

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from .model import Answer
from .settings import DnsServer

_SAID = (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)


def ask(name: str, server: DnsServer, timeout: float) -> Answer:
    """Ask one DNS server for the addresses of a name, by UDP, and by TCP where the answer does not fit.

    Args:
        name: fully qualified.
        server: which.
        timeout: s, in all.
    """
    deadline = time.monotonic() + timeout
    try:
        query = dns.message.make_query(name, dns.rdatatype.A, flags=0)  # no recursion: its own word, or none
        try:
            answer = dns.query.udp(
                query, server.address, timeout, server.port, ignore_unexpected=True, raise_on_truncation=True
            )
        except dns.message.Truncated:
            answer = dns.query.tcp(query, server.address, max(0.0, deadline - time.monotonic()), server.port)
        if answer.rcode() not in _SAID:
            return Answer(server.name, error=dns.rcode.to_text(answer.rcode()))
        if not isinstance(answer, dns.message.QueryMessage) or not answer.flags & dns.flags.AA:
            return Answer(server.name, error="not a server of the zone")
        chain = answer.resolve_chaining()
    except dns.exception.Timeout:
        return Answer(server.name, error="no answer in time")
    except (OSError, ValueError, dns.exception.DNSException) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        return Answer(server.name, error=str(why).lower())
    if chain.answer is None:
        return Answer(server.name)
    return Answer(server.name, tuple(sorted(record.address for record in chain.answer)), ttl=chain.minimum_ttl)
