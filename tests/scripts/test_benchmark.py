"""The benchmark prints a table, writes it as JSON, and follows its arguments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmark import PAIRS, command

SMALL = ["--pair", "digits", "--device", "cpu", "--threads", "1", "--rounds", "1"]
SMALL += ["--image-size", "64x96", "--batch-size", "2"]


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])


def run(*arguments: str) -> None:
    command.main(command.parser().parse_args([*SMALL, *arguments]))


def test_a_run_prints_and_writes_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "bench.json"
    run("--no-memory", "--breakdown", "--json", str(file))
    report = json.loads(file.read_text())
    assert report["device"] == "cpu" and report["threads"] == 1
    (result,) = report["pairs"]
    assert (result["image_size"], result["batch_size"], result["rounds"]) == ([64, 96], 2, 1)
    assert tuple(result["seconds"]) == PAIRS["digits"].variants
    assert result["reference"] is None
    assert "peak_mib" not in result
    seconds = {name: spread["median"] for name, spread in result["seconds"].items()}
    assert min(seconds.values()) > 0
    for key, teacher in (("ratio", "teacher"), ("ratio_to_backbone", "teacher_backbone")):
        for name, ratio in result[key].items():
            expected = seconds[name] / (seconds["student"] + seconds[teacher])
            assert ratio == pytest.approx(expected)
    printed = capsys.readouterr().out
    assert "2 images of 64x96 pixels" in printed
    assert f"{result['ratio']['distilled']:.3f}" in printed
    assert all(name in printed for name in (*seconds, *result["breakdown_seconds"]))


def test_a_pair_with_a_reference_is_compared_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bench.json"
    opts = ("DISTILL.IDaDet.TOPK", "10", "DISTILL.IDaDet.OBJECTNESS_THRESHOLD", "0.0")
    run("--pair", "digits_idadet", "--no-memory", "--json", str(file), *opts)
    (result,) = json.loads(file.read_text())["pairs"]
    assert result["reference"] == "hint"
    ratios = result["ratio_to_hint"]
    assert set(ratios) == set(PAIRS["digits_idadet"].distilled) - {"hint"}
    seconds = {name: spread["median"] for name, spread in result["seconds"].items()}
    for name, ratio in ratios.items():
        assert ratio == pytest.approx(seconds[name] / seconds["hint"])
    assert result["counts"]["idadet"] == {"idadet/num_proposals": 20, "idadet/num_selected": 12}
    printed = capsys.readouterr().out
    assert "to hint" in printed and "idadet/num_proposals 20" in printed
    assert f"{ratios['idadet_mask']:.3f}" in printed


def test_an_image_size_is_one_number_or_two(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {text: command.image_size(text) for text in ("256", "600x1000")}
    assert sizes == {"256": (256, 256), "600x1000": (600, 1000)}
    for text in ("600x", "x", "0", "-5", "1x2x3", "big"):
        with pytest.raises(SystemExit):
            command.parser().parse_args([f"--image-size={text}"])
        assert f'"{text}" is no size in pixels' in capsys.readouterr().err


def test_overrides_reach_the_distilled_step(tmp_path: Path) -> None:
    parts = []
    for opts in ([], ["DISTILL.TADF.CLS_WEIGHT", "0.0", "DISTILL.TADF.REG_WEIGHT", "0.0"]):
        run("--no-memory", "--breakdown", "--json", str(tmp_path / "x.json"), *opts)
        report = json.loads((tmp_path / "x.json").read_text())
        parts.append(set(report["pairs"][0]["breakdown_seconds"]))
    assert parts[0] - parts[1] == {"teacher ROI pooling", "teacher box head"}


def test_a_wrong_override_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run("--no-memory", "DISTILL.TADF.NOTHING", "1")
    assert left.value.code == 2
    assert "DISTILL.TADF.NOTHING" in capsys.readouterr().err.splitlines()[-1]
