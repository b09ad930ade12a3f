"""The trainer on files of pseudo labels: what the config asks for reaches the losses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode

from distill.data.registration import register_json_dataset
from distill.engine import Trainer, build_config, training_parser


def _pseudo_file(root: Path, folder: Path) -> str:
    """The training labels; of each image the first box is sure, the second doubtful."""
    truth = json.loads((root / "coco/annotations/instances_train2017.json").read_text())
    for box in truth["annotations"]:
        box["score"] = 0.3 if box["id"] % 2 else 0.8
    truth["info"] = {"image_root": str(root / "coco" / "train2017")}
    (folder / "pseudo.json").write_text(json.dumps(truth))
    return str(folder / "pseudo.json")


def _config(root: Path, output: Path, *options: str, pseudo: str) -> CfgNode:
    data = ("DATASETS.TRAIN", "()", "DATASETS.TEST", "()", "DATASETS.PSEUDO", f"('{pseudo}',)")
    arguments = ["--config-file", str(root / "tiny.yaml"), *data, "SOLVER.MAX_ITER", "2", *options]
    return build_config(training_parser().parse_args([*arguments, "OUTPUT_DIR", str(output)]))


def _weights(cfg: CfgNode) -> dict[str, torch.Tensor]:
    Path(cfg.OUTPUT_DIR).mkdir(exist_ok=True)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer.student.state_dict()


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[key]) for key, value in one.items())


_DISTILLED = (
    *("MODEL.META_ARCHITECTURE", "Distiller", "DISTILL.METHODS", "('TADF',)"),
    *("DISTILL.TEACHER.ALLOW_RANDOM", "True"),
)


@pytest.mark.parametrize("distilled", [False, True], ids=["alone", "with a method"])
def test_ignored_boxes_change_what_is_learned(tiny_coco, tmp_path, distilled):
    pseudo = _pseudo_file(tiny_coco, tmp_path)
    common, ignored = (), ("DISTILL.PSEUDO.IGNORE_THRESHOLD", "0.2")
    if distilled:
        teacher = ("DISTILL.TEACHER.CONFIG_FILE", str(tiny_coco / "tiny.yaml"))
        common = (*_DISTILLED, *teacher)
    plain = _weights(_config(tiny_coco, tmp_path / "a", *common, pseudo=pseudo))
    again = _weights(_config(tiny_coco, tmp_path / "b", *common, pseudo=pseudo))
    asked = _weights(_config(tiny_coco, tmp_path / "c", *common, *ignored, pseudo=pseudo))
    assert _same(plain, again) and not _same(plain, asked)
    assert all(value.isfinite().all() for value in asked.values())


def test_a_student_of_another_number_of_classes_is_refused(tiny_coco, tmp_path):
    pseudo = _pseudo_file(tiny_coco, tmp_path)
    option = ("MODEL.ROI_HEADS.NUM_CLASSES", "7")
    with pytest.raises(ValueError, match=r"predicts 7 classes .* but its dataset .* has 80"):
        Trainer(_config(tiny_coco, tmp_path, *option, pseudo=pseudo))


def test_a_json_file_is_evaluated_on_like_any_dataset(tiny_coco, tmp_path):
    file = Path(_pseudo_file(tiny_coco, tmp_path))
    name = f"{file}@{tiny_coco / 'coco' / 'train2017'}"
    cfg = _config(tiny_coco, tmp_path / "run", pseudo=str(file))
    cfg.defrost()
    cfg.DATASETS.TEST = (name,)
    (tmp_path / "run").mkdir()
    register_json_dataset(name)
    trainer = Trainer(cfg)
    results = trainer.test(cfg, trainer.student)
    assert 0 <= results["bbox"]["AP"] <= 100
    assert (tmp_path / "run" / "inference" / "pseudo" / "coco_instances_results.json").exists()
    assert file.is_file()
