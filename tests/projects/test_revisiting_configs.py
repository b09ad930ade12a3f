"""The recipes of pseudo labels: every one builds and trains a step, in both stages."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from experiments import load_plan
from helpers import tiny
from helpers.recipes import ROOT, build, load, load_at_random_weights

from distill.data.pseudo.config import check_pseudo_config
from distill.engine import stage_configs
from distill.engine.solver import build_lr_scheduler, build_optimizer

_FOLDER = ROOT / "projects" / "RevisitingKD"
_CONFIGS = sorted((_FOLDER / "configs").glob("*faster*.yaml")) + sorted(
    (_FOLDER / "configs").glob("*retinanet*.yaml")
)


@pytest.mark.parametrize("path", _CONFIGS, ids=lambda path: path.stem)
def test_every_recipe_trains_a_step_on_random_images(path: Path) -> None:
    cfg = load_at_random_weights(path)
    check_pseudo_config(cfg)
    model = build(cfg)
    size = (96, 96) if path.name.startswith("digits") else (64, 96)
    inputs = [tiny.example([[8, 8, 40, 48], [50, 6, 90, 60]], size=size, seed=i) for i in range(2)]
    losses = tiny.step(model, inputs)
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()


@pytest.mark.parametrize(
    "path", [x for x in _CONFIGS if "_stage" not in x.stem], ids=lambda path: path.stem
)
def test_every_recipe_has_two_stages_of_the_papers_proportions(path: Path) -> None:
    first, second = stage_configs(load(path)).values()
    assert 0.25 <= second.SOLVER.MAX_ITER / first.SOLVER.MAX_ITER <= 0.5
    assert second.SOLVER.BASE_LR == pytest.approx(0.1 * first.SOLVER.BASE_LR)
    model = tiny.build(tiny.retinanet_cfg())
    for stage in (first, second):
        # Detectron2 refuses steps beyond the end only when it builds the schedule.
        build_lr_scheduler(stage, build_optimizer(stage, model))
        assert all(step < stage.SOLVER.MAX_ITER for step in stage.SOLVER.STEPS)


def test_the_two_configs_are_the_two_stages(tmp_path: Path) -> None:
    both = stage_configs(load(_FOLDER / "configs" / "digits_faster_rcnn.yaml"))
    for number, stage in enumerate(both.values(), start=1):
        single = load(_FOLDER / "configs" / f"digits_faster_rcnn_stage{number}.yaml")
        assert single.SOLVER.dump() == stage.SOLVER.dump()
        assert (single.DATASETS.TRAIN, single.DATASETS.PSEUDO) == (
            stage.DATASETS.TRAIN,
            stage.DATASETS.PSEUDO,
        )
    first, second = (
        load(_FOLDER / "configs" / f"digits_faster_rcnn_stage{number}.yaml") for number in (1, 2)
    )
    assert second.MODEL.WEIGHTS == f"{first.OUTPUT_DIR}/model_final.pth"


def test_every_file_that_the_plan_trains_on_is_made_by_the_script() -> None:
    script = (_FOLDER / "pseudo_labels.sh").read_text()
    plan = load_plan(_FOLDER / "plans" / "results.yaml")
    names = {
        part.split("/pseudo/")[1].removesuffix("/pseudo.json").removesuffix(".json")
        for run in plan.runs.values()
        for value in run.opts
        for part in value.split("'")
        if "/pseudo/" in part
    }
    made = {name: f"label {name} " in script or f"$pseudo/{name}.json" in script for name in names}
    made |= {x: "two_teachers_$method" in script for x in names if x.startswith("two_teachers")}
    assert all(made.values()), made


def test_the_aliases_map_coco_to_every_class_of_voc() -> None:
    from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
    from detectron2.data.datasets.pascal_voc import CLASS_NAMES

    aliases = yaml.safe_load((_FOLDER / "voc_aliases.yaml").read_text())
    coco = {x["name"] for x in COCO_CATEGORIES if x["isthing"]}
    renamed = {voc for voc, names in aliases.items() if set(names) <= coco}
    assert renamed | coco >= set(CLASS_NAMES)
