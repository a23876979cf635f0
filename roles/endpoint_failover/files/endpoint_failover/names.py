"""Where a name is, asked of each DNS server of its zone itself: no cache has a say."""

from __future__ import annotations

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
    query = dns.message.make_query(name, dns.rdatatype.A, flags=0)  # no recursion: its own word, or none
    try:
        answer, _ = dns.query.udp_with_fallback(query, server.address, timeout, server.port, ignore_unexpected=True)
    except dns.exception.Timeout:
        return Answer(server.name, error="no answer in time")
    except (OSError, dns.exception.DNSException) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        return Answer(server.name, error=str(why).lower())
    if answer.rcode() not in _SAID:
        return Answer(server.name, error=dns.rcode.to_text(answer.rcode()))
    if not answer.flags & dns.flags.AA:
        return Answer(server.name, error="not a server of the zone")
    records = [each for each in answer.answer if each.rdtype == dns.rdatatype.A]
    addresses = sorted({record.address for each in records for record in each})
    return Answer(server.name, tuple(addresses), ttl=min((each.ttl for each in records), default=0))
