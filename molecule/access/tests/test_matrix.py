"""The access matrix, tried cell by cell on the live service: each persona, each kind of path, each capability."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab import PROJECT, Lab
from matrix import Row, read_matrix
from personas import NODE, Personas, Request

MATRIX = read_matrix(PROJECT / "files/access-matrix.yml")
DENIED = (403, 405)  # not allowed to you; not there for anyone
METHODS = {"c": "PUT", "r": "GET", "u": "PUT", "d": "DELETE", "l": "LIST"}
SEEDER = "matrix-seeder"  # made for this test and removed after it


@pytest.fixture(scope="module")
def seeder(lab: Lab, personas: Personas) -> Iterator[str]:
    """A token that may put keys everywhere, which a configurator can grant: why that role is a hat of its own."""
    configurator = personas.token("configurator")
    everything = 'path "secrets/*" { capabilities = ["create", "update", "delete"] }\n' \
                 'path "operations/*" { capabilities = ["create", "update", "delete"] }\n'  # fmt: skip
    role = lab.api(NODE, "GET", "auth/jwt/role/operator", token=configurator).body["data"]
    wanted = {key: role[key] for key in ("role_type", "user_claim", "bound_claims_type", "bound_claims")}
    made = [
        lab.api(NODE, "PUT", f"sys/policies/acl/{SEEDER}", {"policy": everything}, token=configurator),
        lab.api(NODE, "PUT", f"auth/jwt/role/{SEEDER}", wanted | {"token_policies": [SEEDER]}, token=configurator),
    ]
    assert [answer.status for answer in made] == [204, 200] or all(200 <= answer.status < 300 for answer in made), made
    yield personas.login("alice", SEEDER)
    configurator = personas.fresh("configurator")
    lab.api(NODE, "DELETE", f"auth/jwt/role/{SEEDER}", token=configurator)
    lab.api(NODE, "DELETE", f"sys/policies/acl/{SEEDER}", token=configurator)


def test_the_table_names_all_personas_and_no_other(personas: Personas) -> None:
    assert list(MATRIX.personas) == personas.names


def test_every_cell_is_as_declared_when_it_is_tried(lab: Lab, personas: Personas, seeder: str) -> None:
    subjects = personas.checkin.people
    chains, cells = [], []
    for persona in MATRIX.personas:
        for row in MATRIX.rows:
            chain, tried = chain_of(row, persona, personas, subjects, seeder)
            chains.append(chain)
            cells.append((persona, row, tried))
    answers = personas.from_node(chains)
    personas.from_node([clearing(persona, subjects, seeder) for persona in MATRIX.personas])
    wrong = []
    for (persona, row, tried), chain_answers in zip(cells, answers, strict=True):
        for capability, place in tried.items():
            answer = chain_answers[place]
            assert answer.status, f"{persona}, {row.what}: no answer {answer.body.get('errors')}"
            if (answer.status not in DENIED) != (capability in row.may(persona)):
                words = f"{answer.status} {answer.body.get('errors') or ''}"
                wrong.append(f"{persona}: {row.what} ({row.path}): {capability} was answered {words}")
    assert not wrong, "\n".join(wrong)


def test_every_cell_is_as_declared_when_the_server_is_asked(lab: Lab, personas: Personas) -> None:
    subjects = personas.checkin.people
    words = {"create": "c", "read": "r", "update": "u", "delete": "d", "list": "l"}
    asker, wrong = personas.token("configurator"), []
    for persona in MATRIX.personas:
        if persona == "anonymous":
            continue  # sys/capabilities is about tokens
        token = personas.fresh(persona) if persona == "locker-once" else personas.token(persona)
        rows = [row for row in MATRIX.rows if not (row.refused_body or row.unauthenticated)]
        places = [place for row in rows for place in (row.place(subjects), row.list_place(subjects))]
        told = lab.api(NODE, "POST", "sys/capabilities", {"token": token, "paths": places}, token=asker)
        assert told.status == 200, told
        for row in rows:
            here, listed = (told.body["data"][place] for place in (row.place(subjects), row.list_place(subjects)))
            has = {words[one] for one in here if one in words and one != "list"} | ({"l"} if "list" in listed else set())
            if has & set(row.tries) != set(row.may(persona)):
                wrong.append(f"{persona}: {row.what} ({row.path}): the server says {here}, and of the list {listed}")
    assert not wrong, "\n".join(wrong)


def clearing(persona: str, subjects: dict[str, str], seeder: str) -> list[Request]:
    """Return the requests that remove what trying the matrix as one persona has left."""
    return [
        ("DELETE", row.key(subjects, f"matrix-{persona}-{capability}").replace("/data/", "/metadata/", 1), None, seeder)
        for row in MATRIX.rows
        if row.kind == "kv" and not row.path.startswith("cubbyhole/")
        for capability in "crud"
    ]


def chain_of(
    row: Row, persona: str, personas: Personas, subjects: dict[str, str], seeder: str
) -> tuple[list[Request], dict[str, int]]:
    """Return the requests that try a row as one persona, and at which place of them each capability is tried."""
    chain: list[Request] = []
    tried: dict[str, int] = {}

    def token() -> str:
        # A locker that opens once can try one thing; a token that may end itself is another's than those of other rows.
        single = persona == "locker-once" or row.path == "auth/token/revoke-self"
        return personas.fresh(persona) if single else personas.token(persona)

    for capability in row.tries:
        if capability in row.untried and capability in row.may(persona):
            continue
        if row.kind == "kv":
            key, body = row.key(subjects, f"matrix-{persona}-{capability}"), row.content
            if capability in "rud" and not row.path.startswith("cubbyhole/"):
                chain.append(("PUT", key, body, seeder))
            place = row.list_place(subjects) if capability == "l" else key
        else:
            place, body = row.place(subjects), row.body
        tried[capability] = len(chain)
        chain.append((METHODS[capability], place, body if capability in "cu" else None, token()))
    return chain, tried
