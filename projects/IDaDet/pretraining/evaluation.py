"""Accuracy of image classification."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from torch import Tensor

__all__ = ["TopKAccuracy"]

# A class is right if it is among the k that score highest.
_RANKS = {"top1": 1, "top5": 5}


class TopKAccuracy(DatasetEvaluator):
    """Top-1 and top-5 accuracy in percent, over the images of all ranks."""

    def __init__(self) -> None:
        """Starts without images."""
        self.reset()

    def reset(self) -> None:
        """Forgets all images."""
        self._hits: list[Tensor] = []

    def process(self, inputs: Sequence[dict], outputs: Tensor) -> None:
        """Adds a batch.

        Args:
            inputs: one dict an image, with ``label``.
            outputs: (N, K) class scores.
        """
        labels = torch.tensor([x["label"] for x in inputs]).to(outputs.device)
        best = outputs.topk(min(max(_RANKS.values()), outputs.shape[1]), dim=1).indices
        right = best == labels[:, None]
        self._hits.append(torch.stack([right[:, :k].any(dim=1) for k in _RANKS.values()], dim=1))

    def evaluate(self) -> dict[str, dict[str, float]]:
        """The accuracies as ``classification``; nothing on other ranks than the first."""
        hits = torch.cat(self._hits) if self._hits else torch.zeros(0, len(_RANKS))
        gathered = comm.gather((hits.sum(dim=0).tolist(), len(hits)))
        if not comm.is_main_process():
            return {}
        number = sum(count for _, count in gathered)
        sums = (sum(column) for column in zip(*(sums for sums, _ in gathered), strict=True))
        accuracies = [100.0 * total / number for total in sums]
        return {"classification": dict(zip(_RANKS, accuracies, strict=True))}
