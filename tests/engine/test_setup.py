from __future__ import annotations

import pytest
from detectron2.utils.logger import setup_logger

from distill.engine.setup import build_config, exit_with, training_parser


def _config(*arguments: str):
    return build_config(training_parser().parse_args(arguments))


def test_overrides_win_over_the_file(tiny_coco):
    cfg = _config("--config-file", str(tiny_coco / "tiny.yaml"), "SOLVER.BASE_LR", "0.5")
    assert cfg.SOLVER.BASE_LR == 0.5
    assert cfg.MODEL.FPN.OUT_CHANNELS == 8
    assert cfg.is_frozen()


def test_without_a_gpu_the_cpu_is_used():
    assert _config("--num-gpus", "0", "MODEL.DEVICE", "cuda").MODEL.DEVICE == "cpu"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("SOLVER.BASE_RL", "1"), r"The command line.*SOLVER\.BASE_RL|BASE_RL"),
        (("SOLVER.MAX_ITER", "many"), "SOLVER.MAX_ITER"),
        (("SOLVER.MAX_ITER",), "KEY VALUE"),
    ],
)
def test_an_override_that_does_not_fit_is_one_sentence(arguments, message):
    with pytest.raises(ValueError, match=message) as raised:
        _config(*arguments)
    assert "\n" not in str(raised.value)


def test_a_missing_config_file_is_named():
    with pytest.raises(FileNotFoundError, match="--config-file nowhere.yaml does not exist"):
        _config("--config-file", "nowhere.yaml")


def test_an_error_is_shown_as_a_sentence_and_logged_whole(tmp_path, capsys):
    setup_logger(str(tmp_path), name="distill")
    try:
        raise ValueError("what is wrong")
    except ValueError as error:
        with pytest.raises(SystemExit) as left:
            exit_with(error)
    assert left.value.code == 2
    shown = capsys.readouterr()
    assert shown.err == "error: what is wrong\n" and shown.out == ""
    assert "Traceback" in (tmp_path / "log.txt").read_text()
