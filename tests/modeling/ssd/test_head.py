from __future__ import annotations

import torch

from distill.modeling.ssd import SSDHead


def test_a_level_has_its_own_convolutions_with_a_column_for_the_background() -> None:
    head = SSDHead([4, 6], [3, 5], num_classes=2)
    logits, deltas = head([torch.randn(2, 4, 8, 7), torch.randn(2, 6, 4, 3)])
    assert [tuple(x.shape) for x in logits] == [(2, 9, 8, 7), (2, 15, 4, 3)]
    assert [tuple(x.shape) for x in deltas] == [(2, 12, 8, 7), (2, 20, 4, 3)]


def test_an_untrained_head_prefers_no_class() -> None:
    logits, deltas = SSDHead([4], [3], num_classes=2)([torch.randn(1, 4, 8, 8)])
    assert logits[0].abs().max() < 0.3 and deltas[0].abs().max() < 0.3
