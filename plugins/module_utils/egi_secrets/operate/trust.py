"""Rotating certificates: which step is next, and whether anybody would be locked out by it.

A renewal under the same CA is one step. Another CA takes three, each a run of its own, so that users who bring their own
trust have time: everybody trusts both; the listeners get certificates of the new one; nobody trusts the old one any more.
Which is next follows from the files of the inventory and from what is found, never from what an earlier run wrote down. Pure
functions; the role `tls_rotation` acts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Phase = Literal["trust", "certificates", "drop", "nothing"]


@dataclass(frozen=True)
class Party:
    """Somebody who verifies what the nodes serve.

    Attributes:
        name: for messages.
        variable: what names the file with the CAs that they are to trust.
        trusts: sha256 of those that they trust now; None: they could not be asked.
        wanted: sha256 of those that they are to trust.
    """

    name: str
    variable: str
    trusts: frozenset[str] | None
    wanted: frozenset[str]


@dataclass(frozen=True)
class Served:
    """What a listener serves.

    Attributes:
        where: such as `vault-infn:443`.
        node: whose it is.
        authorities: sha256 of those who vouch for it, as far as anybody knows them; none where a stranger does.
    """

    where: str
    node: str
    authorities: frozenset[str]


@dataclass(frozen=True)
class Renewal:
    """A node whose listeners are to serve another certificate than they do.

    Attributes:
        node: which.
        authorities: sha256 of those who vouch for the certificate that the inventory has for it.
    """

    node: str
    authorities: frozenset[str]


@dataclass(frozen=True)
class Plan:
    """The next step.

    Attributes:
        phase: which.
        problems: why it may not be taken, a sentence each; then nothing may be changed.
        says: what is going to happen.
        next: what is left to do afterwards, and by whom.
    """

    phase: Phase
    problems: Sequence[str]
    says: str
    next: str


def decide(
    parties: Sequence[Party], served: Sequence[Served], renewals: Sequence[Renewal], names: Mapping[str, str]
) -> Plan:
    """Decide on the next step.

    Args:
        parties: all who verify what the nodes serve.
        served: of every listener that answers.
        renewals: of every node that needs one.
        names: sha256 of a CA → its name.
    """
    phase = _phase(parties, renewals)
    problems = [*_dropped(parties, served, names), *_untrusted(parties, served, renewals, names, phase)]
    return Plan(
        phase, problems, _said(phase, parties, served, renewals, names), _next(phase, parties, served, renewals, names)
    )


def leaps(party: Party, served: frozenset[str], new: frozenset[str]) -> bool:
    """Tell whether a node would go from one CA to another in one go, as only those do who skip the steps above.

    Args:
        party: the node.
        served: sha256 of those who vouch for what it serves; none where nobody does that is known.
        new: of those who vouch for the certificate that it is to serve.
    """
    if not party.trusts:
        return False
    if not served:
        return bool(party.trusts - party.wanted)  # which of them it leads to, nobody knows
    return not (served & party.wanted and new & party.trusts)


def _phase(parties: Sequence[Party], renewals: Sequence[Renewal]) -> Phase:
    if any(party.wanted - party.trusts for party in parties if party.trusts is not None):
        return "trust"
    if renewals:
        return "certificates"
    if any(party.trusts - party.wanted for party in parties if party.trusts is not None):
        return "drop"
    return "nothing"


def _dropped(parties: Sequence[Party], served: Sequence[Served], names: Mapping[str, str]) -> list[str]:
    """Refuse to have a party trust nobody who vouches for what a listener serves now, or may do so."""
    found = []
    for variable, concerned in _by_variable(parties).items():
        led = [each for each in served if each.authorities and any(not each.authorities & p.wanted for p in concerned)]
        if led:
            who = _listed(names, {sha for each in led for sha in each.authorities})
            found.append(
                f"{variable} is without {who}, which {_and(each.where for each in led)} still lead to: put it back beside "
                "the new one, until every listener has a certificate of that."
            )
        lost = {sha for each in concerned for sha in (each.trusts or frozenset()) - each.wanted}
        strange = [each.where for each in served if not each.authorities]
        if lost and strange:
            found.append(
                f"No CA that is known here vouches for {_and(strange)}, and {variable} is without {_listed(names, lost)}, "
                "which is still trusted: put it back until every listener has a certificate of a CA of the file."
            )
    return found


def _untrusted(
    parties: Sequence[Party],
    served: Sequence[Served],
    renewals: Sequence[Renewal],
    names: Mapping[str, str],
    phase: Phase,
) -> list[str]:
    """Refuse a certificate whose CA somebody would not trust by the time that it is served."""
    found = []
    for variable, concerned in _by_variable(parties).items():
        strange = [each for each in renewals if any(not each.authorities & p.wanted for p in concerned)]
        if strange:
            who = _listed(names, {sha for each in strange for sha in each.authorities})
            found.append(
                f"{variable} is without {who}, which the new certificates of {_and(each.node for each in strange)} lead to: "
                "add it there, and run this again before they are served."
            )
    if phase == "certificates":
        now = {each.node: frozenset[str]() for each in served}
        for each in served:
            now[each.node] |= each.authorities
        another = [each for each in renewals if not each.authorities & now.get(each.node, frozenset())]
        found += [
            f"{party.name} could not be asked whom it trusts, and {_and(each.node for each in another)} would get "
            "certificates of another CA than they have: bring it back, and run this again."
            for party in parties
            if party.trusts is None and another
        ]
    return found


def _said(
    phase: Phase,
    parties: Sequence[Party],
    served: Sequence[Served],
    renewals: Sequence[Renewal],
    names: Mapping[str, str],
) -> str:
    known = [party for party in parties if party.trusts is not None]
    silent = [party.name for party in parties if party.trusts is None]
    late = f" {_and(silent)} could not be asked, and must be brought to it later." if silent else ""
    if phase == "trust":
        lacking = [p for p in known if p.wanted - (p.trusts or frozenset())]
        new = _lacked(known)
        step = "Step 1 of 3, trust" if new - _led(served) else "Trust"
        return (
            f"{step}: {_and(p.name for p in lacking)} will trust {_listed(names, new)} as well. What the nodes "
            f"serve stays as it is.{late}"
        )
    if phase == "certificates":
        issuers = _listed(names, {sha for each in renewals for sha in each.authorities})
        had = {sha for one in served if one.node in {each.node for each in renewals} for sha in one.authorities}
        same = all(each.authorities & had for each in renewals)
        step = "Renewal under the same CA" if same else "Step 2 of 3, certificates"
        return f"{step}: {_and(each.node for each in renewals)}, in this order, get certificates of {issuers}, by a reload."
    if phase == "drop":
        dropped = {sha for p in known for sha in (p.trusts or frozenset()) - p.wanted}
        ceasing = [p.name for p in known if (p.trusts or frozenset()) - p.wanted]
        return (
            f"Step 3 of 3, drop: {_and(ceasing)} will trust {_listed(names, dropped)} no more, which no listener leads to."
            f"{late}"
        )
    return f"Every node has the inventory's certificate, and everybody trusts whom they should.{late}"


def _next(
    phase: Phase,
    parties: Sequence[Party],
    served: Sequence[Served],
    renewals: Sequence[Renewal],
    names: Mapping[str, str],
) -> str:
    if phase == "trust" and (renewals or _lacked(parties) - _led(served)):
        then = (
            f"run this again: it brings the new certificates of {_and(each.node for each in renewals)}"
            if renewals
            else "put certificates of the new CA into the inventory, and run this again"
        )
        return f"When users who bring trust of their own have been told, {then}."
    renewed = {each.node for each in renewals}
    led = _led(each for each in served if each.node not in renewed)
    led |= {sha for each in renewals for sha in each.authorities}
    if phase == "certificates" and any((party.trusts or frozenset()) - party.wanted for party in parties):
        return "Run this again: the old CA is dropped."
    idle = {sha for party in parties for sha in party.wanted} - led
    if idle:
        files = _and(party.variable for party in parties if party.wanted & idle)
        return (
            f"No listener leads to {_listed(names, idle)}, which is still trusted. If it is the old CA, take it out of "
            f"{files}, and run this again."
        )
    return "Nothing is left to do."


def _lacked(parties: Iterable[Party]) -> set[str]:
    """Return the CAs that somebody is to trust, and does not yet."""
    return {sha for each in parties if each.trusts is not None for sha in each.wanted - each.trusts}


def _led(served: Iterable[Served]) -> set[str]:
    """Return the CAs that listeners lead to."""
    return {sha for each in served for sha in each.authorities}


def _by_variable(parties: Iterable[Party]) -> dict[str, list[Party]]:
    found: dict[str, list[Party]] = {}
    for party in parties:
        found.setdefault(party.variable, []).append(party)
    return found


def _listed(names: Mapping[str, str], which: Iterable[str]) -> str:
    return _and(sorted({names.get(sha, f"a CA with sha256 {sha[:16]}…") for sha in which}))


def _and(words: Iterable[str]) -> str:
    *first, last = dict.fromkeys(words)
    return f"{', '.join(first)} and {last}" if first else last
