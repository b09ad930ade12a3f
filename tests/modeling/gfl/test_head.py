from __future__ import annotations

import math

import pytest
import torch
from detectron2.layers import CycleBatchNormList, ShapeSpec
from torch import nn

from distill.modeling.dense.config import tower_arguments
from distill.modeling.gfl import GFLHead


def head(channels: int = 8, reg_max: int = 16, **changes) -> GFLHead:
    torch.manual_seed(0)
    shapes = [ShapeSpec(channels=channels, stride=stride) for stride in (8, 16)]
    arguments = {"num_convs": 4, "norm": "GN", "prior_prob": 0.01, **changes}
    return GFLHead(reg_max=reg_max, **tower_arguments(shapes, num_classes=3, **arguments))


@pytest.mark.parametrize("norm", ["GN", "BN", ""])
def test_each_location_gets_scores_and_four_distributions(norm: str) -> None:
    features = [torch.rand(2, 8, 4, 6), torch.rand(2, 8, 2, 3)]
    logits, distributions = head(norm=norm, num_convs=2, reg_max=5)(features)
    assert [x.shape for x in logits] == [(2, 3, 4, 6), (2, 3, 2, 3)]
    assert [x.shape for x in distributions] == [(2, 24, 4, 6), (2, 24, 2, 3)]


def test_it_starts_at_the_prior_score_and_with_nearly_even_distributions() -> None:
    logits, distributions = head(prior_prob=0.02)([torch.rand(1, 8, 4, 4)] * 2)
    assert logits[0].sigmoid().mean().item() == pytest.approx(0.02, rel=0.05)
    assert logits[0].mean().item() == pytest.approx(-math.log(49), rel=0.05)
    assert 0 < distributions[0].abs().max() < 0.5


def test_each_level_has_its_own_scale() -> None:
    model, features = head(), [torch.rand(1, 8, 4, 4)] * 2
    with torch.no_grad():
        before = model(features)
        model.scales.copy_(torch.tensor([2.0, -1.0]))
        after = model(features)
    torch.testing.assert_close(before[1][0], before[1][1])
    torch.testing.assert_close(after[1][0], 2 * before[1][0])
    torch.testing.assert_close(after[1][1], -before[1][1])
    torch.testing.assert_close(after[0], before[0])


def test_batch_normalization_has_statistics_for_each_level() -> None:
    model = head(norm="BN", num_convs=1).train()
    norm = model.cls_subnet[1]
    assert isinstance(norm, CycleBatchNormList) and len(norm) == 2
    model([torch.rand(2, 8, 4, 4), 5 + torch.rand(2, 8, 4, 4)])
    assert not torch.allclose(norm[0].running_mean, norm[1].running_mean)


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (48, 16), (8, 8)])
def test_group_normalization_has_32_groups_or_what_the_channels_allow(
    channels: int, groups: int
) -> None:
    norms = [x for x in head(channels, num_convs=2).modules() if isinstance(x, nn.GroupNorm)]
    assert [(x.num_groups, x.num_channels) for x in norms] == [(groups, channels)] * 4
