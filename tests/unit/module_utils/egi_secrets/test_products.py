from __future__ import annotations

import pytest
from ansible.module_utils.egi_secrets import products


def test_an_unknown_product_is_refused_with_the_known_names() -> None:
    with pytest.raises(products.UnknownProductError, match=r"'consul'.*openbao or vault"):
        products.product_named("consul")


@pytest.mark.parametrize("name", ["openbao", "vault"])
def test_a_profile_holds_every_attribute_and_the_derived_names(name: str) -> None:
    profile = products.profile(name)

    assert profile["unit"] == f"{name}.service"
    assert set(products.Product.__dataclass_fields__) < set(profile)


def test_both_products_answer_the_same_questions() -> None:
    ours, theirs = products.OPENBAO, products.VAULT

    assert ours.paths.keys() == theirs.paths.keys()
    assert ours.api.keys() == theirs.api.keys()


def test_root_without_a_token_is_possible_through_the_unix_socket_alone() -> None:
    assert products.OPENBAO.listener_tcp["disable_unauthed_generate_root_endpoints"] is True
    assert products.OPENBAO.listener_unix["disable_unauthed_generate_root_endpoints"] is False


def test_a_configuration_is_judged_by_every_release_that_may_start_with_it() -> None:
    assert products.OPENBAO.checkers(["2.6.2", "2.7.2"]) == [
        ["/opt/openbao/2.6.2/bao", "operator", "validate-config", "-config=%s"],
        ["/opt/openbao/2.7.2/bao", "operator", "validate-config", "-config=%s"],
    ]


def test_a_product_that_cannot_judge_a_configuration_has_no_command_for_it() -> None:
    assert products.VAULT.checkers(["1.14.0"]) == []  # not the bare binary, which ends with 127
