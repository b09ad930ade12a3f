"""What a run directory tells: how far it is, and whether it is still what the plan wants."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from experiments.plan import Plan, Run
from experiments.run_state import (
    config_digest,
    differences,
    flat_config,
    iterations_done,
    iterations_wanted,
    put_aside,
    read_results,
    record_needs,
    recorded_config,
    run_config,
    training_arguments,
)

CONFIG = str(Path(__file__).parents[3] / "configs" / "digits" / "faster_rcnn_student.yaml")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A teacher and a student, both finished."""
    teacher = Run("teacher", 0, CONFIG, (), tmp_path / "teacher" / "seed0")
    student = Run("student", 0, CONFIG, (), tmp_path / "student" / "seed0", ("teacher/seed0",))
    plan = Plan(tmp_path, {run.id: run for run in (teacher, student)})
    for run in plan.runs.values():
        run.folder.mkdir(parents=True)
        (run.folder / "config.yaml").write_text(run_config(run).dump())
        (run.folder / "results.json").write_text("{}")
        (run.folder / "model_final.pth").write_bytes(b"weights")
        record_needs(plan, run)
    return plan


def differences_of(plan: Plan, run: Run) -> list[str]:
    return differences(plan, run, run_config(run))


def test_the_same_config_is_no_difference_elsewhere_either(plan: Plan) -> None:
    student = plan.runs["student/seed0"]
    assert differences_of(plan, student) == []
    moved = student.folder.with_name("moved")
    student.folder.rename(moved)
    assert differences_of(plan, dataclasses.replace(student, folder=moved)) == []


def test_a_changed_key_is_told_with_both_values(plan: Plan) -> None:
    changed = dataclasses.replace(plan.runs["student/seed0"], opts=("SOLVER.BASE_LR", "0.5"))
    assert differences_of(plan, changed) == ["SOLVER.BASE_LR was 0.005 and is 0.5"]


def test_a_key_that_is_newer_than_the_run_counts_as_its_default(plan: Plan) -> None:
    student = plan.runs["student/seed0"]
    config = student.folder / "config.yaml"
    lines = config.read_text().splitlines(keepends=True)
    older = [line for line in lines if "REG_GATE" not in line]
    assert len(older) == len(lines) - 1
    config.write_text("".join(older))
    assert differences_of(plan, student) == []
    other = dataclasses.replace(student, opts=("DISTILL.TADF.REG_GATE", "none"))
    assert differences_of(plan, other) == ["DISTILL.TADF.REG_GATE was 'proposal' and is 'none'"]


def test_a_digest_tells_configs_apart_but_not_seeds_folders_and_newer_keys(plan: Plan) -> None:
    student = plan.runs["student/seed0"]

    def digest(run: Run, output: Path = plan.output) -> str:
        return config_digest(flat_config(run_config(run)), output)

    assert config_digest(recorded_config(student), plan.output) == digest(student)
    assert config_digest({"NEWER.KEY": 1, **flat_config(run_config(student))}, plan.output) == (
        digest(student)
    )
    elsewhere = dataclasses.replace(student, seed=3, folder=Path("elsewhere"))
    assert digest(elsewhere) == digest(student)
    weights = ("DISTILL.TEACHER.WEIGHTS", f"{plan.output}/teacher/seed0/model_final.pth")
    moved = ("DISTILL.TEACHER.WEIGHTS", "other/teacher/seed0/model_final.pth")
    one = digest(dataclasses.replace(student, opts=weights))
    assert digest(dataclasses.replace(student, opts=moved), Path("other")) == one
    assert one != digest(student)


def test_other_weights_of_what_is_needed_are_a_difference(plan: Plan) -> None:
    (plan.runs["teacher/seed0"].folder / "model_final.pth").write_bytes(b"other weights")
    assert differences_of(plan, plan.runs["student/seed0"]) == ["teacher/seed0 was trained anew"]


def test_a_run_that_saved_nothing_differs_in_nothing(plan: Plan) -> None:
    changed = dataclasses.replace(plan.runs["student/seed0"], opts=("SOLVER.BASE_LR", "0.5"))
    (changed.folder / "results.json").unlink()
    assert differences_of(plan, changed) == []
    (changed.folder / "last_checkpoint").write_text("model_0000001.pth")
    assert differences_of(plan, changed) != []


def test_results_count_only_beside_weights(plan: Plan) -> None:
    student = plan.runs["student/seed0"]
    assert read_results(student) == {}
    (student.folder / "model_final.pth").unlink()
    assert read_results(student) is None


def test_a_script_adds_its_keys_and_leaves_a_backbone(tmp_path: Path) -> None:
    config = str(Path(CONFIG).parents[1] / "pretrain" / "digits_bir18.yaml")
    run = Run("steps", 0, config, (), tmp_path, script="pretrain_backbone.py")
    assert run_config(run).PRETRAIN.NUM_CLASSES == 10
    (tmp_path / "results.json").write_text("{}")
    assert read_results(run) is None
    (tmp_path / "backbone.pth").touch()
    assert read_results(run) == {}


def test_progress_is_read_past_a_line_that_is_being_written(plan: Plan) -> None:
    student = plan.runs["student/seed0"]
    assert iterations_done(student) == 0
    whole = "".join(json.dumps({"iteration": i, "loss": "x" * 600}) + "\n" for i in range(40))
    (student.folder / "metrics.json").write_text(whole + '{"iterat')
    assert iterations_done(student) == 40


def test_putting_aside_keeps_one_older_run(plan: Plan) -> None:
    student = plan.runs["student/seed0"]
    for content in ("older", "newer"):
        student.folder.mkdir(exist_ok=True)
        (student.folder / "log.txt").write_text(content)
        aside = put_aside(student)
    assert (aside / "log.txt").read_text() == "newer"
    assert not student.folder.exists()


def _staged(folder: Path) -> Run:
    data = ("DATASETS.PSEUDO", "('p.json',)", "SOLVER.MAX_ITER", "6")
    opts = (*data, "DISTILL.FINETUNE.MAX_ITER", "2")
    return Run("staged", 0, CONFIG, opts, folder, stages=True)


def test_a_run_of_two_stages_is_started_and_counted_as_one(tmp_path: Path) -> None:
    run = _staged(tmp_path)
    assert "--stages" in training_arguments(run)
    assert "--stages" not in training_arguments(dataclasses.replace(run, stages=False))
    assert iterations_wanted(run, run_config(run)) == 8
    assert iterations_done(run) == 0
    for stage, last in (("stage1_pseudo", 5), ("stage2_finetune", 0)):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "metrics.json").write_text(json.dumps({"iteration": last}) + "\n")
    assert iterations_done(run) == 7


def test_a_changed_config_is_noticed_in_the_first_stage_already(tmp_path: Path) -> None:
    run = _staged(tmp_path)
    (tmp_path / "config.yaml").write_text(run_config(run).dump())
    (tmp_path / "stage1_pseudo").mkdir()
    (tmp_path / "stage1_pseudo" / "last_checkpoint").write_text("model_0000001.pth")
    longer = dataclasses.replace(run, opts=(*run.opts, "DISTILL.FINETUNE.MAX_ITER", "4"))
    (found,) = differences(Plan(tmp_path, {run.id: longer}), longer, run_config(longer))
    assert found == "DISTILL.FINETUNE.MAX_ITER was 2 and is 4"
