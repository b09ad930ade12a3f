from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.teacher_files import box, pseudo_file, rows_of

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.thresholds import Thresholds
from distill.labeling.commands import merge

_SCRIPT = Path(__file__).parents[3] / "scripts" / "pseudo_label.py"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A.json with ants and bees, B.json with insects (ants) and cows; the place where one works."""
    rows = [(0, box(0), 0.9, "ant"), (0, box(50), 0.8, "bee"), (1, box(0), 0.3, "ant")]
    pseudo_file("A", ["ant", "bee"], *rows, image_root="images").save(tmp_path / "A.json")
    rows = [(0, box(1), 0.6, "insect"), (0, box(50), 0.7, "cow"), (2, box(0), 0.06, "cow")]
    pseudo_file("B", ["insect", "cow"], *rows).save(tmp_path / "B.json")
    (tmp_path / "aliases.yaml").write_text("ant: [insect]\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*arguments: str) -> PseudoFile:
    parser = argparse.ArgumentParser()
    merge.add_arguments(parser)
    merge.run(parser.parse_args([*arguments, "--output", "out/M.json"]))
    return PseudoFile.load("out/M.json")


def test_files_are_merged_and_counted(folder, capsys):
    merged = _run("A.json", "B.json", "--aliases", "aliases.yaml")
    assert rows_of(merged) == [
        (0, box(0), 0.9, "ant", "A+B"),
        (0, box(50), 0.8, "bee", "A"),
        (1, box(0), 0.3, "ant", "A"),
        (2, box(0), 0.06, "cow", "B"),
    ]
    assert merged.class_names == ("ant", "bee", "cow")
    # The output is elsewhere than what the folder was relative to.
    assert merged.info["image_root"] == str(folder / "images")
    assert [line.split() for line in capsys.readouterr().out.splitlines() if line] == [
        ["teacher", "boxes", "believed", "kept", "shared"],
        ["---------", "-------", "----------", "------", "--------"],
        ["A", "3", "3", "3", "1"],
        ["B", "3", "3", "2", "1"],
        ["class", "known", "by", "boxes"],
        ["-------", "----------", "-------"],
        ["ant", "A,", "B", "2"],
        ["bee", "A", "1"],
        ["cow", "B", "1"],
        ["conflict", "won", "by", "over", "times"],
        ["-----------------", "------", "-------"],
        ["bee", "cow", "1"],
        "4 boxes in 3 images; 1 conflicts resolved.".split(),
        "Written to out/M.json.".split(),
    ]


def test_every_option_is_heard(folder):
    Thresholds(0.75).save("TA.json")
    options = "--aliases aliases.yaml --method wbf --iou 0.9 --thresholds TA.json -"
    options += " --score-threshold 0.1 --conflict-iou 0.6 --keep-conflicts --classes cow bee ant"
    merged = _run("A.json", "B.json", *options.split())
    # An IoU of 9/11 is not enough: each ant stays alone, with half its score.
    assert [row[2:] for row in rows_of(merged)] == [
        (0.8, "bee", "A"),
        (0.7, "cow", "B"),
        (0.45, "ant", "A"),
        (0.3, "ant", "B"),
    ]
    assert merged.class_names == ("cow", "bee", "ant")
    assert merged.info["merge"]["conflict_iou"] == 0.6


def test_one_file_is_enough(folder):
    assert rows_of(_run("A.json", "--score-threshold", "0.8")) == [(0, box(0), 0.9, "ant", "A")]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--thresholds T.json", "--thresholds has 1 files for 2 inputs: give one for each"),
        ("--thresholds none.json -", "thresholds file none.json does not exist"),
        ("--aliases none.yaml", "alias table none.yaml does not exist"),
        ("--aliases circle.yaml", "form a circle"),
        ("--aliases unknown.yaml", "unknown.yaml lists emu, which no input has"),
        ("--classes emu", "--classes names emu, which is no class of any input"),
        ("--iou 1.5", "--iou is 1.5: give a number from 0 to 1"),
        ("--score-threshold nan", "--score-threshold is nan: give"),
        ("--conflict-iou -1", "--conflict-iou is -1.0: give"),
        ("--method soft-nms --iou 0.5", "--iou means nothing to soft-nms"),
    ],
)
def test_wrong_options_are_refused(folder, options, reason):
    Path("circle.yaml").write_text("ant: [bee]\nbee: [ant]\n")
    Path("unknown.yaml").write_text("ant: [emu]\n")
    with pytest.raises((ValueError, FileNotFoundError), match=reason):
        _run("A.json", "B.json", *options.split())
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text[: len(text) // 2], "B.json is no JSON, or cut short"),
        (lambda text: "", "B.json is no JSON"),
        (lambda text: "{}", "B.json is no COCO file of boxes"),
        (lambda text: text.replace('"image_id": 3', '"image_id": 9'), "B.json: the image_id 9"),
        (lambda text: text.replace("0.06", "NaN"), "B.json: .*score nan"),
        (lambda text: text.replace("50.0, 0.0, 10.0", "50.0, 0.0, -1.0"), "sizes not negative"),
        (lambda text: text.replace('"id": 3, "file', '"id": 1, "file'), "is there twice"),
        (lambda text: text.replace("3.png", "4.png"), "are not of the same images"),
    ],
)
def test_damaged_files_are_refused(folder, change, reason):
    text = Path("B.json").read_text()
    assert change(text) != text
    Path("B.json").write_text(change(text))
    with pytest.raises(ValueError, match=reason) as error:
        _run("A.json", "B.json")
    assert "\n" not in str(error.value)


def test_the_command_line_gives_the_same_whatever_the_sequence(folder):
    options = ["--aliases", "aliases.yaml"]
    command = [sys.executable, str(_SCRIPT), "merge", "B.json", "A.json", *options]
    subprocess.run([*command, "--output", "M.json"], check=True, capture_output=True)
    _run("A.json", "B.json", *options)
    assert Path("M.json").read_bytes() == Path("out/M.json").read_bytes()
