"""Who has applied what, by the nodes' own words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ansible.module_utils.egi_secrets.api import Node
from ansible.module_utils.egi_secrets.cluster import NodeState, applied
from ansible.module_utils.egi_secrets.errors import UnreachableError


@dataclass
class Busy:
    """A node of a cluster that commits ten entries between any two questions, and has them all."""

    committed: ClassVar[list[int]] = [1000]
    node: Node

    def raft_index(self) -> int:
        if self.node.name == "mute":
            raise UnreachableError("mute", "it did not answer")
        self.committed[0] += 10
        return self.committed[0]


def test_the_leader_is_asked_first_and_who_is_sealed_or_mute_is_left_out() -> None:
    roles = {"a": "standby", "b": "active", "c": "standby", "d": "sealed", "mute": "standby"}
    apis: Any = [Busy(Node(name, f"https://{name}:8200")) for name in roles]
    found = applied(apis, [NodeState(name, role, None) for name, role in roles.items()])
    assert set(found) == {"a", "b", "c"}
    assert found["b"] < min(found["a"], found["c"])
