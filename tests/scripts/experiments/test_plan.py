"""Plans: what they mean, and what is said of one that makes no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from experiments.plan import Group, load_plan

PLAN: dict[str, Any] = {
    "output": "out",
    "config": "common.yaml",
    "opts": ["SOLVER.MAX_ITER", 10],
    "seeds": [0, 1],
    "runs": [
        {"name": "teacher", "config": "teacher.yaml", "seeds": [0]},
        {"name": "alone", "stages": True},
        {
            "name": "distilled",
            "opts": ["DISTILL.TEACHER.WEIGHTS", "{output}/teacher/seed0/model_final.pth"],
            "needs": ["teacher/seed0"],
        },
        {
            "name": "longer",
            "opts": ["MODEL.WEIGHTS", "{output}/alone/seed{seed}/model_final.pth"],
            "needs": ["alone/seed{seed}"],
        },
    ],
    "groups": {"short": ["alone", "distilled"]},
}


def write(folder: Path, content: Any) -> Path:
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_runs_take_the_defaults_and_fill_in_output_and_seed(tmp_path: Path) -> None:
    plan = load_plan(write(tmp_path, PLAN))
    assert list(plan.runs) == [
        "teacher/seed0",
        *(f"{name}/seed{seed}" for name in ("alone", "distilled", "longer") for seed in (0, 1)),
    ]
    assert plan.runs["alone/seed0"].stages and not plan.runs["distilled/seed0"].stages
    longer = plan.runs["longer/seed1"]
    assert longer.config == "common.yaml"
    assert longer.folder == Path("out/longer/seed1")
    assert longer.needs == ("alone/seed1",)
    weights = "out/alone/seed1/model_final.pth"
    assert longer.opts == ("SOLVER.MAX_ITER", "10", "MODEL.WEIGHTS", weights)
    assert plan.runs["teacher/seed0"].config == "teacher.yaml"
    assert longer.script == "train_net.py"
    other = load_plan(write(tmp_path, {**PLAN, "script": "other.py"}))
    assert {run.script for run in other.runs.values()} == {"other.py"}
    assert plan.groups == {"short": Group({"alone": "alone", "distilled": "distilled"})}
    assert plan.name == "plan"


def test_another_output_replaces_the_plans(tmp_path: Path) -> None:
    plan = load_plan(write(tmp_path, PLAN), output="elsewhere")
    assert plan.runs["distilled/seed0"].opts[-1] == "elsewhere/teacher/seed0/model_final.pth"


def test_a_selection_brings_what_it_needs_with_it(tmp_path: Path) -> None:
    plan = load_plan(write(tmp_path, PLAN))
    chosen = [run.id for run in plan.select(["distilled", "longer"], [1])]
    assert chosen == ["teacher/seed0", "alone/seed1", "distilled/seed1", "longer/seed1"]


@pytest.mark.parametrize(
    ("names", "seeds", "message"),
    [(["alne"], None, "no run alne"), (["alone"], [7], "seed of \\[7\\]")],
)
def test_a_selection_of_nothing_is_refused(
    tmp_path: Path, names: list[str], seeds: list[int] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_plan(write(tmp_path, PLAN)).select(names, seeds)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"name": "alone"}, "alone/seed0 is there twice"),
        ({"name": "x", "needs": ["y/seed0"]}, "needs y/seed0, which is no run"),
        ({"name": "x", "opts": ["SOLVER.MAX_ITER"]}, "not pairs of KEY and VALUE"),
        ({"name": "x", "opts": ["SEED", 3]}, "set SEED, which `seeds`"),
        ({"name": "x", "seeds": 3}, "seeds of x are no list"),
        ({"name": "x", "option": []}, r"unknown keys \['option'\]"),
        ({"name": ".."}, "is no plain name"),
        ({"name": "a/../../b"}, "is no plain name"),
        ({"name": "/tmp/x"}, "is no plain name"),
        ({"name": ""}, "is no plain name"),
        ({"name": "x", "opts": "SEED"}, "the opts of x is 'SEED': it must be a list"),
        ({"name": "x", "seeds": [True]}, "seeds of x are no list"),
        ({"seeds": [0]}, r"a run lacks \['name'\]"),
    ],
)
def test_a_senseless_run_is_named(tmp_path: Path, run: dict[str, Any], message: str) -> None:
    path = write(tmp_path, {**PLAN, "runs": [*PLAN["runs"], run]})
    with pytest.raises(ValueError, match=message) as error:
        load_plan(path)
    assert str(path) in str(error.value)


def test_a_group_of_unknown_runs_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the group 'short' has nobody"):
        load_plan(write(tmp_path, {**PLAN, "groups": {"short": ["nobody"]}}))


def test_a_group_may_have_labels_and_columns(tmp_path: Path) -> None:
    labels, columns = {"alone": "student alone"}, {"AP": "a/AP"}
    groups = {"first": labels, "second": {"rows": labels, "columns": {"AP": "b/AP"}}}
    plan = load_plan(write(tmp_path, {**PLAN, "groups": groups, "columns": columns}))
    assert plan.groups["first"] == Group(labels, columns)
    assert plan.groups["second"] == Group(labels, {"AP": "b/AP"})


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.yaml does not exist"):
        load_plan(tmp_path / "nowhere.yaml")
    (tmp_path / "broken.yaml").write_text("runs: [")
    with pytest.raises(ValueError, match="broken.yaml is not plain YAML"):
        load_plan(tmp_path / "broken.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"script": "../evil.py"}, "the script '../evil.py' is no plain name"),
        ({"runs": {"name": "x"}}, "the runs of the plan"),
        ({"runs": None}, "the runs of the plan"),
        ({"output": None}, "the output is empty"),
        ({"output": ["out"]}, "the output of the plan"),
        ({"groups": ["alone"]}, "the groups of the plan"),
        ({"groups": {"short": 3}}, "a group is 3"),
        ({3: 4}, "unknown keys"),
    ],
)
def test_a_senseless_plan_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path, {**PLAN, **change})
    with pytest.raises(ValueError, match=message) as error:
        load_plan(path)
    assert str(path) in str(error.value)
