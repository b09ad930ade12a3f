from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from helpers.teacher_files import IMAGES, box, pseudo_file, rows_of

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import HUMAN
from distill.data.pseudo.thresholds import Thresholds
from distill.labeling.commands import complete


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """labels.json with ants, P.json with insects (ants) and bees; the place where one works."""
    truth = pseudo_file(HUMAN, ["ant"], (0, box(0), 1.0, "ant"), image_root="images")
    truth.save(tmp_path / "labels.json")
    rows = [(0, box(1), 0.9, "insect"), (0, box(50), 0.8, "bee"), (1, box(0), 0.4, "bee")]
    pseudo_file("A", ["insect", "bee"], *rows).save(tmp_path / "P.json")
    (tmp_path / "aliases.yaml").write_text("ant: [insect]\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*arguments: str, labels: str = "labels.json") -> PseudoFile:
    parser = argparse.ArgumentParser()
    complete.add_arguments(parser)
    own = ["--labels", labels, "--pseudo", "P.json", "--output", "out/C.json"]
    complete.run(parser.parse_args([*own, *arguments]))
    return PseudoFile.load("out/C.json")


def test_labels_are_completed_and_counted(folder, capsys):
    completed = _run("--aliases", "aliases.yaml")
    expected = [(0, box(0), 1.0, "ant", HUMAN), (0, box(50), 0.8, "bee", "A")]
    assert rows_of(completed) == expected
    assert completed.info["image_root"] == str(folder / "images")
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert lines[2:] == [
        ["ant", "1", "1", "0", "1", "0", "0"],
        ["bee", "0", "1", "1", "0", "0", "0"],
        "1 labels and 1 pseudo labels in 3 images.".split(),
        "Written to out/C.json.".split(),
    ]


def test_every_option_is_heard(folder):
    options = "--aliases aliases.yaml --score-threshold 0.3 --iou 0.9 --conflict-iou 0.6"
    completed = _run(*options.split(), "--classes", "bee", "ant")
    assert [row[2:] for row in rows_of(completed)] == [
        (1.0, "ant", HUMAN),
        (0.8, "bee", "A"),
        (0.4, "bee", "A"),
    ]
    told = completed.info["complete"]
    assert (told["iou"], told["conflict_iou"]) == (0.9, 0.6)
    # The insect's IoU with the ant is 9/11.
    assert [(x["class"], x["beyond"]) for x in told["classes"]] == [("bee", 0), ("ant", 1)]


def test_thresholds_are_by_class(folder):
    Thresholds(0.5, {"bee": 0.3, "insect": 0.95}).save("T.json")
    completed = _run("--thresholds", "T.json")
    assert [row[3] for row in rows_of(completed)] == ["ant", "bee", "bee"]


def test_two_kinds_of_thresholds_are_refused(folder, capsys):
    with pytest.raises(SystemExit):
        _run("--thresholds", "T.json", "--score-threshold", "0.3")
    assert "not allowed with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--aliases circle.yaml", "form a circle"),
        ("--aliases unknown.yaml", "unknown.yaml lists emu, which no input has"),
        ("--thresholds other.json", "thresholds for P.json are of cow, none of which"),
        ("--score-threshold 2", "--score-threshold is 2.0: give a number from 0 to 1"),
        ("--classes emu", "--classes names emu, which is no class"),
    ],
)
def test_wrong_options_are_refused(folder, options, reason):
    Path("circle.yaml").write_text("ant: [insect]\ninsect: [ant]\n")
    Path("unknown.yaml").write_text("ant: [emu]\n")
    Thresholds(0.5, {"cow": 0.5}).save("other.json")
    with pytest.raises(ValueError, match=reason):
        _run(*options.split())
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ("no_such_zoo", "--labels has no_such_zoo, which is not a registered dataset"),
        ("none.json", "none.json does not exist"),
        ("cut.json", "cut.json is no JSON, or cut short"),
        ("more.json", "P.json lacks 1 of the 4 images of more.json, such as 4.png"),
    ],
)
def test_wrong_labels_are_refused(folder, labels, reason):
    Path("cut.json").write_bytes(Path("labels.json").read_bytes()[:-30])
    more = [*IMAGES, {**IMAGES[0], "id": 4, "file_name": "4.png"}]
    pseudo_file(HUMAN, ["ant"], images=more).save("more.json")
    with pytest.raises((ValueError, FileNotFoundError), match=reason):
        _run(labels=labels)
