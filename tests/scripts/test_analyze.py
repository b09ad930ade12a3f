"""The script prints tables or JSON alone, counts the student of a pair, and names what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import analyze
import pytest

DIGITS = "configs/digits/faster_rcnn_student.yaml"
OVERLAY = "projects/TADF/configs/digits_faster_rcnn.yaml"
NUMBERS = {"params_1bit_m", "params_real_m", "size_mb", "ops_g"}


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])


def run(config: str, *arguments: str) -> None:
    command = ["--config-file", config, "--input-size", "64x96", "--num-proposals", "50"]
    analyze.main(analyze.parser().parse_args([*command, *arguments]))


def counted(capsys: pytest.CaptureFixture[str], config: str, *arguments: str) -> dict[str, Any]:
    run(config, "--json", *arguments)
    return json.loads(capsys.readouterr().out)


def refusal(capsys: pytest.CaptureFixture[str], config: str, *arguments: str) -> str:
    with pytest.raises(SystemExit) as left:
        run(config, *arguments)
    assert left.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    return output.err.splitlines()[-1]


def test_json_holds_the_numbers_of_the_whole_and_of_each_group(capsys):
    result = counted(capsys, DIGITS)
    groups = result.pop("groups")
    assert set(result) == NUMBERS
    assert list(groups) == ["stem", "backbone", "neck", "RPN", "ROI head"]
    for name in NUMBERS:
        assert sum(group[name] for group in groups.values()) == pytest.approx(result[name])
    assert result["params_1bit_m"] == 0 < result["ops_g"]


def test_of_a_student_and_its_teacher_the_student_is_counted(capsys):
    # Without the teacher's weights, which do not exist.
    assert counted(capsys, OVERLAY) == counted(capsys, DIGITS)


def test_input_size_is_height_by_width_and_proposals_are_those_asked_for(capsys):
    ops = {
        arguments: counted(capsys, DIGITS, *arguments)["groups"]
        for arguments in ((), ("--input-size", "32x96"), ("--num-proposals", "150"))
    }
    once, half, thrice = ops.values()
    assert half["stem"]["ops_g"] == pytest.approx(once["stem"]["ops_g"] / 2)
    assert thrice["ROI head"]["ops_g"] == pytest.approx(3 * once["ROI head"]["ops_g"])


def test_overrides_change_what_is_counted(capsys):
    before = counted(capsys, DIGITS, "MODEL.ROI_BOX_HEAD.FC_DIM", "32")
    after = counted(capsys, DIGITS, "MODEL.ROI_BOX_HEAD.FC_DIM", "64")
    assert after["size_mb"] > before["size_mb"]


def test_without_json_tables_are_printed(capsys):
    run(DIGITS)
    output = capsys.readouterr().out
    assert all(word in output for word in ("ROI head", "total", "real fully connected layers"))


def test_what_json_leaves_out_is_said_beside_it(capsys):
    run(DIGITS, "--json", "MODEL.MASK_ON", "True")
    output = capsys.readouterr()
    assert list(json.loads(output.out)["groups"])[-1] == "ROI head"
    assert "not counted: roi_heads.mask_head" in output.err.splitlines()[-1]


@pytest.mark.parametrize("size", ["600", "600x", "0x64", "64,96", "-1x64", "64x96x3"])
def test_a_malformed_size_is_one_sentence(capsys, size):
    said = refusal(capsys, DIGITS, f"--input-size={size}")
    assert said == f"error: --input-size '{size}' is no HEIGHTxWIDTH in pixels, such as 600x1000."


def test_a_config_that_makes_no_detector_is_one_sentence(capsys):
    said = refusal(capsys, DIGITS, "MODEL.META_ARCHITECTURE", "Nothing")
    assert "makes no detector" in said and "'Nothing'" in said
    resnet = ("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.RESNETS.DEPTH", "18")
    assert "RES2_OUT_CHANNELS" in refusal(capsys, DIGITS, *resnet)
    assert "cannot be counted" in refusal(
        capsys, DIGITS, "MODEL.META_ARCHITECTURE", "SemanticSegmentor"
    )


def test_a_missing_config_is_one_sentence(capsys):
    assert "no/such.yaml does not exist" in refusal(capsys, "no/such.yaml")
