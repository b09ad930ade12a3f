from __future__ import annotations

import json
from pathlib import Path

import pytest
from detectron2.config import CfgNode, get_cfg
from PIL import Image

from distill.config import add_distill_config
from distill.data.records import repeat_factors, training_records


def _file(folder: Path, name: str, images: int, score: float = 1.0) -> str:
    box = {"category_id": 1, "bbox": [1, 2, 8, 8], "area": 64, "iscrowd": 0, "score": score}
    content = {
        "info": {"image_root": "."},
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 20, "height": 20} for i in range(images)
        ],
        "annotations": [{"id": i, "image_id": i, **box} for i in range(images)],
        "categories": [{"id": 1, "name": "bee"}],
    }
    for i in range(images):
        Image.new("RGB", (20, 20)).save(folder / f"{i}.png")
    (folder / name).write_text(json.dumps(content))
    return str(folder / name)


def _config(train: tuple[str, ...], pseudo: tuple[str, ...], factors: tuple = ()) -> CfgNode:
    cfg = get_cfg()
    add_distill_config(cfg)
    cfg.MODEL.MASK_ON = False
    cfg.DATASETS.TRAIN, cfg.DATASETS.PSEUDO, cfg.DATASETS.TEST = train, pseudo, ()
    cfg.DATASETS.REPEAT_FACTORS = factors
    return cfg


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    return _file(tmp_path, "labels.json", 2), _file(tmp_path, "pseudo.json", 3, score=0.8)


def test_labeled_and_pseudo_labeled_images_are_trained_on_together(files):
    labels, pseudo = files
    assert len(training_records(_config((labels,), ()))) == 2
    assert len(training_records(_config((), (pseudo,)))) == 3
    both = training_records(_config((labels,), (pseudo,)))
    assert [x["image_id"] for x in both] == [0, 1, 0, 1, 2]
    assert repeat_factors(_config((labels,), (pseudo,)), both) is None


def test_every_dataset_has_its_repeat_factor(files):
    labels, pseudo = files
    cfg = _config((labels,), (pseudo,), (4.0, 0.5))
    assert repeat_factors(cfg, training_records(cfg)).tolist() == [4.0, 4.0, 0.5, 0.5, 0.5]


def test_repeat_factors_multiply_those_of_rare_classes(files):
    labels, pseudo = files
    cfg = _config((labels,), (pseudo,), (4.0, 1.0))
    cfg.DATALOADER.SAMPLER_TRAIN = "RepeatFactorTrainingSampler"
    cfg.DATALOADER.REPEAT_THRESHOLD = 4.0  # one class in every image: sqrt(4 / 1) = 2
    assert repeat_factors(cfg, training_records(cfg)).tolist() == [8.0, 8.0, 2.0, 2.0, 2.0]


def test_no_dataset_at_all_is_refused():
    with pytest.raises(ValueError, match="DATASETS.TRAIN and DATASETS.PSEUDO are empty"):
        training_records(_config((), ()))
