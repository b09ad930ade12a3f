from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import train_net
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from distill.engine import build_config, run_stages, stage_configs, training_parser

_KILLED_RUN = """
import os, signal
import torch
import train_net
from detectron2.engine import HookBase
from distill.engine import Trainer, training_parser

class Kill(HookBase):
    def before_step(self):
        stage, iteration = os.environ["KILL_AT"].split(":")
        if stage in self.trainer.cfg.OUTPUT_DIR and self.trainer.iter == int(iteration):
            os.kill(os.getpid(), signal.SIGKILL)

build_hooks = Trainer.build_hooks
Trainer.build_hooks = lambda self: [*build_hooks(self), Kill()]
torch.set_num_threads(1)
train_net.main(training_parser().parse_args())
"""


def _pseudo_file(root: Path, folder: Path) -> str:
    """Two classes of the training labels in another order, as a teacher may have found them."""
    truth = json.loads((root / "coco/annotations/instances_train2017.json").read_text())
    names = [truth["categories"][1], truth["categories"][0]]
    boxes = [{**x, "score": 0.9, "teacher": "t"} for x in truth["annotations"]]
    info = {"image_root": str(root / "coco" / "train2017")}
    content = {**truth, "info": info, "categories": names, "annotations": boxes}
    path = folder / "pseudo.json"
    path.write_text(json.dumps(content))
    return str(path)


def _arguments(root: Path, pseudo: str, output: Path, *options: str) -> list[str]:
    data = ("DATASETS.TRAIN", "('coco_2017_train',)", "DATASETS.TEST", "()")
    lengths = ("SOLVER.MAX_ITER", "4", "DISTILL.FINETUNE.MAX_ITER", "3")
    own = ("DATASETS.PSEUDO", f"('{pseudo}',)", "SOLVER.CHECKPOINT_PERIOD", "1")
    config = ["--config-file", str(root / "tiny.yaml"), "--stages"]
    return [*config, *data, *lengths, *own, *options, "OUTPUT_DIR", str(output)]


def _config(root: Path, pseudo: str, output: Path, *options: str) -> CfgNode:
    return build_config(training_parser().parse_args(_arguments(root, pseudo, output, *options)))


def _environment(root: Path) -> dict[str, str]:
    paths = [path for path in (str(Path(train_net.__file__).parent), *sys.path) if path]
    return {
        **os.environ,
        "DETECTRON2_DATASETS": str(root),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(paths),
    }


def _run(root: Path, *arguments: str, kill_at: str | None = None) -> None:
    command = [sys.executable, "-c", _KILLED_RUN] if kill_at else [sys.executable]
    command += [] if kill_at else [train_net.__file__]
    environment = {**_environment(root), **({"KILL_AT": kill_at} if kill_at else {})}
    done = subprocess.run(
        [*command, *arguments], env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == (-signal.SIGKILL if kill_at else 0), done.stderr


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]


def test_each_stage_is_an_ordinary_config(tiny_coco, tmp_path):
    options = ("SOLVER.STEPS", "(2, 4)", "DATASETS.REPEAT_FACTORS", "(3.0, 2.0)")
    cfg = _config(tiny_coco, "p.json", tmp_path, *options)
    first, second = stage_configs(cfg).values()
    assert (first.DATASETS.TRAIN, first.DATASETS.PSEUDO) == ((), ("p.json",))
    assert (second.DATASETS.TRAIN, second.DATASETS.PSEUDO) == (("coco_2017_train",), ())
    assert (first.SOLVER.MAX_ITER, second.SOLVER.MAX_ITER) == (4, 3)
    assert first.SOLVER.BASE_LR == cfg.SOLVER.BASE_LR
    assert second.SOLVER.BASE_LR == pytest.approx(0.1 * cfg.SOLVER.BASE_LR)
    assert (first.SOLVER.STEPS, second.SOLVER.STEPS) == ((2, 4), (2, 3))
    assert first.DATASETS.REPEAT_FACTORS == (2.0,)
    assert second.DATASETS.REPEAT_FACTORS == (3.0,)
    assert first.DISTILL.PSEUDO.CLASSES_OF == "coco_2017_train"
    assert second.MODEL.WEIGHTS == os.path.join(first.OUTPUT_DIR, "model_final.pth")


def test_the_second_stage_is_a_third_as_long_by_default(tiny_coco, tmp_path):
    options = ("SOLVER.MAX_ITER", "90", "DISTILL.FINETUNE.MAX_ITER", "0")
    cfg = _config(tiny_coco, "p.json", tmp_path, *options)
    assert [x.SOLVER.MAX_ITER for x in stage_configs(cfg).values()] == [90, 30]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("DATASETS.PSEUDO", "()"), "DATASETS.PSEUDO"),
        (("DATASETS.TRAIN", "()"), "DATASETS.TRAIN"),
        (("SOLVER.MAX_ITER", "1", "DISTILL.FINETUNE.MAX_ITER", "0"), "DISTILL.FINETUNE"),
    ],
)
def test_a_stage_without_data_or_length_is_refused(tiny_coco, tmp_path, option, message):
    with pytest.raises(ValueError, match=message):
        stage_configs(_config(tiny_coco, "p.json", tmp_path, *option))


@pytest.fixture(scope="module")
def whole(tiny_coco: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of both stages that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    pseudo = _pseudo_file(tiny_coco, folder)
    _run(tiny_coco, *_arguments(tiny_coco, pseudo, folder / "run"))
    return folder / "run"


def test_the_run_s_folder_gets_the_final_weights_and_all_results(whole):
    first, second = whole / "stage1_pseudo", whole / "stage2_finetune"
    final, last = _weights(whole), _weights(second)
    assert all(torch.equal(final[key], last[key]) for key in last)
    assert any(not torch.equal(final[key], x) for key, x in _weights(first).items())
    results = json.loads((whole / "results.json").read_text())
    assert results["iterations"] == 7
    assert [x["iterations"] for x in results["stages"].values()] == [4, 3]
    rates = [json.loads(x)["lr"] for x in (second / "metrics.json").read_text().splitlines()]
    assert max(rates) <= 0.1 * 0.002 + 1e-9


@pytest.mark.parametrize("kill_at", ["stage1_pseudo:2", "stage2_finetune:0", "stage2_finetune:2"])
def test_a_run_killed_on_either_side_of_the_border_resumes_to_the_same_weights(
    tiny_coco, whole, tmp_path, kill_at
):
    pseudo = str(whole.parent / "pseudo.json")
    arguments = _arguments(tiny_coco, pseudo, tmp_path / "run")
    _run(tiny_coco, *arguments, kill_at=kill_at)
    assert not (tmp_path / "run" / "results.json").exists()
    _run(tiny_coco, "--resume", *arguments)
    mine, expected = _weights(tmp_path / "run"), _weights(whole)
    assert [key for key in expected if not torch.equal(mine[key], expected[key])] == []


def test_two_processes_go_through_both_stages_together(tiny_coco, whole, tmp_path):
    pseudo = str(whole.parent / "pseudo.json")
    processes = ("--num-gpus", "0", "--num-processes", "2")
    _run(tiny_coco, *processes, *_arguments(tiny_coco, pseudo, tmp_path / "run"))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [x["iterations"] for x in results["stages"].values()] == [4, 3]
    assert _weights(tmp_path / "run").keys() == _weights(whole).keys()


def test_a_new_first_stage_forgets_what_followed_from_another(tiny_coco, tmp_path):
    cfg = _config(tiny_coco, "p.json", tmp_path)
    stale = tmp_path / "stage2_finetune"
    stale.mkdir()
    for name in ("results.json", "last_checkpoint", "model_final.pth"):
        (stale / name).write_text("{}")
    trained = []

    def train(stage: CfgNode, resume: bool) -> dict:
        folder = Path(stage.OUTPUT_DIR)
        trained.append((folder.name, (folder / "last_checkpoint").exists()))
        folder.mkdir(exist_ok=True)
        (folder / "model_final.pth").write_bytes(b"weights")
        text = json.dumps({"ap": 1.0, "iterations": 1, "train_seconds": 2.0})
        (folder / "results.json").write_text(text)
        return {"bbox": {}}

    run_stages(cfg, train, resume=True)
    assert trained == [("stage1_pseudo", False), ("stage2_finetune", False)]
    assert (tmp_path / "model_final.pth").read_bytes() == b"weights"
    run_stages(cfg, train, resume=True)
    assert len(trained) == 2
    run_stages(cfg, train, resume=False)
    assert len(trained) == 4


def test_classes_keep_the_order_of_the_labels_in_both_stages(tiny_coco, tmp_path):
    from distill.data.records import training_records

    pseudo = _pseudo_file(tiny_coco, tmp_path)
    options = ("DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "()")
    first, second = stage_configs(_config(tiny_coco, pseudo, tmp_path, *options)).values()
    DatasetCatalog.get("tiny_train")
    assert MetadataCatalog.get("tiny_train").thing_classes[:2] == ["person", "bicycle"]

    def classes(cfg: CfgNode) -> list[list[int]]:
        return [[a["category_id"] for a in x["annotations"]] for x in training_records(cfg)]

    assert classes(first) == classes(second) == [[0, 1]] * 9
