from __future__ import annotations

import pytest

from distill.deploy.analysis import Cost, Costs, LayerCost

BINARY = Cost(params_1bit=8_000_000, params_real=1000, macs_1bit=64_000_000)
REAL = Cost(params_real=2_000_000, macs_real=3_000_000_000)
COSTS = Costs(
    (
        LayerCost("backbone.conv1", "backbone", "1-bit convolutions", BINARY),
        LayerCost("backbone.conv2", "backbone", "real convolutions", REAL),
        LayerCost("head.conv", "head", "real convolutions", REAL),
    )
)


def test_eight_1bit_parameters_are_a_byte_and_a_real_one_four():
    assert BINARY.size_mb == pytest.approx(1 + 0.004)
    assert REAL.size_mb == pytest.approx(8)


def test_64_1bit_products_are_one_operation():
    assert BINARY.ops_g == pytest.approx(0.001)
    assert REAL.ops_g == pytest.approx(3)


def test_layers_sum_to_groups_kinds_and_a_total():
    assert COSTS.groups == {"backbone": BINARY + REAL, "head": REAL}
    assert COSTS.kinds == {"1-bit convolutions": BINARY, "real convolutions": REAL + REAL}
    assert COSTS.total == Cost(8_000_000, 4_001_000, 64_000_000, 6_000_000_000)


def test_the_dictionary_has_the_same_four_numbers_for_the_total_and_each_group():
    numbers = {"params_1bit_m": 8.0, "params_real_m": 4.001, "size_mb": 17.004, "ops_g": 6.001}
    result = COSTS.as_dict()
    groups = result.pop("groups")
    assert result == pytest.approx(numbers)
    assert groups == {"backbone": (BINARY + REAL).as_dict(), "head": REAL.as_dict()}
    assert set(groups["head"]) == set(numbers)
