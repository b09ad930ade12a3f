"""Datasets; importing this registers the built-in ones."""

from distill.data.builtin import check_datasets
from distill.data.coco import register_coco_unlabeled
from distill.data.digits import prepare_split, register_digits

__all__ = ["check_datasets", "prepare_split", "register_coco_unlabeled", "register_digits"]
