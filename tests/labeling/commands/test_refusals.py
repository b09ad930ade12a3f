"""What is impossible, or would lose something, ends a command before anything is read."""

from __future__ import annotations

import os
from pathlib import Path

import pseudo_label
import pytest
from helpers.teacher_files import box, pseudo_file

GENERATE = "generate --config-file none.yaml --weights none.pth --images images"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A.json and B.json of two teachers, and links to A.json; the place where one works."""
    monkeypatch.chdir(tmp_path)
    for name in "AB":
        pseudo_file(name, ["ant"], (0, box(0), 0.9, "ant")).save(f"{name}.json")
    Path("link.json").symlink_to("A.json")
    os.link("A.json", "hard.json")
    Path("file").write_text("kept")
    Path("images").mkdir()
    Path("images/a.jpg").write_text("")


def refusal(capsys: pytest.CaptureFixture[str], command: str) -> str:
    """The sentence that a command ends with, and status 2."""
    with pytest.raises(SystemExit) as left:
        pseudo_label.main([x.replace("~", " ") for x in command.split()])
    assert left.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("output", ["A.json", "./A.json", "link.json", "hard.json"])
@pytest.mark.parametrize(
    "command",
    [
        "merge A.json B.json",
        "complete --labels A.json --pseudo B.json",
        "complete --labels B.json --pseudo A.json",
        "calibrate --pseudo A.json --labels B.json",
        "calibrate --pseudo B.json --labels A.json",
    ],
)
def test_an_input_is_never_written_over(capsys, command: str, output: str) -> None:
    before = Path("A.json").read_bytes()
    said = refusal(capsys, f"{command} --output {output}")
    assert said.startswith(f"error: --output {Path(output)} is A.json, which is read")
    assert Path("A.json").read_bytes() == before


def test_a_split_that_would_land_on_its_labels_is_refused(capsys) -> None:
    Path("A_5pct_seed0.json").symlink_to("A.json")
    said = refusal(capsys, "split --labels A.json --output . --percent 5")
    assert "A_5pct_seed0.json is A.json, which is read" in said


@pytest.mark.parametrize("again", ["A.json", "link.json", "hard.json", "A.json@images"])
def test_a_file_is_merged_once(capsys, again: str) -> None:
    said = refusal(capsys, f"merge A.json {again} --output M.json")
    assert f"{again} is there twice" in said and not Path("M.json").exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("merge A.json --output file/M.json", "--output: file is no folder"),
        ("merge A.json --output images", "--output images is a folder"),
        ("split --labels A.json --output file", "--output: file is no folder"),
        ("view --pseudo A.json --output file/x", "--output: file is no folder"),
        ("calibrate --pseudo A.json --labels B.json --output file", "--output: file is no folder"),
        (f"{GENERATE} --output file", "--output: file is no folder"),
        (f"{GENERATE} --output file/out", "--output: file is no folder"),
        (f"{GENERATE} --output out --classes a a", "--classes has a twice"),
        (f"{GENERATE} --output out --classes a ~a", "--classes has a twice"),
        (f"{GENERATE} --output out --classes a ~", "--classes has an empty name"),
        ("merge A.json --output M.json --classes ant ~", "--classes has an empty name"),
        (f"{GENERATE} --output out --machine-rank 1", "--machine-rank is 1"),
        (f"{GENERATE} --output out --num-processes 0", "--num-processes is 0"),
        (f"{GENERATE} --output out --batch-size 0", "--batch-size is 0"),
        (f"{GENERATE} --output out --score-floor nan", "--score-floor is nan"),
        ("split --labels A.json --output out --percent nan", "--percent is nan"),
        ("split --labels A.json --output out --percent inf", "--percent is inf"),
        ("split --labels A.json --output out --seed -1", "--seed is -1"),
        ("split --labels A.json --output out --percent 5 5.0000001", "--percent or --seed has"),
        ("calibrate --pseudo A.json --labels B.json --output o --beta nan", "--beta is nan"),
        ("calibrate --pseudo A.json --labels B.json --output o --iou inf", "--iou is inf"),
        ("calibrate --pseudo A.json --labels B.json --output o --floor nan", "--floor is nan"),
        ("calibrate --pseudo A.json --labels B.json --output o --min-kept -1", "--min-kept is -1"),
        ("complete --labels A.json --pseudo B.json --output C.json --iou nan", "--iou is nan"),
    ],
)
def test_options_that_make_no_sense_are_named(capsys, command: str, said: str) -> None:
    assert refusal(capsys, command).startswith(f"error: {said}")
    assert Path("file").read_text() == "kept" and not Path("out").exists()
