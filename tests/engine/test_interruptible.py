"""A signal ends a training with a checkpoint, an error with a sentence, and --resume goes on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.engine import HookBase
from helpers.runs import assert_same, tiny_config, train, weights

from distill.engine import Trainer, TrainingError, TrainLoop
from distill.engine.signals import Interrupted, StopSignals

_SHORT = ("SOLVER.MAX_ITER", "5", "SOLVER.CHECKPOINT_PERIOD", "0")
_QUICK = (*_SHORT, "DATASETS.TEST", "()")


class _At(HookBase):
    """Does something before a step."""

    def __init__(self, iteration: int, action: Callable[[], object]) -> None:
        self.iteration, self.action = iteration, action

    def before_step(self) -> None:
        if self.trainer.iter == self.iteration:
            self.action()


def _send(number: int) -> Callable[[], object]:
    return lambda: os.kill(os.getpid(), number)


def _trainer(root: Path, output: Path, *options: str) -> Trainer:
    cfg = tiny_config(root, output, *options)
    output.mkdir(exist_ok=True)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    return trainer


@pytest.fixture(scope="module")
def whole(tiny_coco, tmp_path_factory) -> Path:
    """A run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    train(tiny_config(tiny_coco, folder, *_QUICK))
    return folder


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_after_the_iteration_and_resume_goes_on(
    tiny_coco, tmp_path, whole, capfd, number, status
):
    before = signal.getsignal(number)
    trainer = _trainer(tiny_coco, tmp_path, *_QUICK)
    trainer.register_hooks([_At(2, _send(number))])
    with pytest.raises(SystemExit) as stopped:
        trainer.train()
    assert stopped.value.code == status and signal.getsignal(number) == before
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000002.pth"
    assert not (tmp_path / "results.json").exists()
    assert f"{signal.Signals(number).name}: the run saves a checkpoint" in capfd.readouterr().err
    resumed = train(tiny_config(tiny_coco, tmp_path, *_QUICK), resume=True)
    assert resumed.start_iter == 3
    assert_same(weights(tmp_path), weights(whole))


def test_a_signal_breaks_an_evaluation_that_changes_nothing(tiny_coco, tmp_path, monkeypatch):
    options = (*_SHORT, "TEST.EVAL_PERIOD", "2")
    trainer = _trainer(tiny_coco, tmp_path, *options)

    def test(*_: object) -> dict:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it went on")

    monkeypatch.setattr(trainer, "test", test)
    with pytest.raises(SystemExit) as stopped:
        trainer.train()
    assert stopped.value.code == 143
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"


def test_a_signal_in_the_last_iteration_leaves_the_evaluation_to_resume(tiny_coco, tmp_path):
    trainer = _trainer(tiny_coco, tmp_path, *_SHORT)
    trainer.register_hooks([_At(4, _send(signal.SIGTERM))])
    with pytest.raises(SystemExit):
        trainer.train()
    assert not (tmp_path / "results.json").exists()
    train(tiny_config(tiny_coco, tmp_path, *_SHORT), resume=True)
    assert json.loads((tmp_path / "results.json").read_text())["iterations"] == 5


def test_a_signal_that_ends_the_loader_too_loses_no_iteration(
    tiny_coco, tmp_path, whole, monkeypatch
):
    trainer = _trainer(tiny_coco, tmp_path, *_QUICK)
    batches = trainer._trainer._data_loader_iter

    def fails_in_the_fourth() -> object:
        for _ in range(3):
            yield next(batches)
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("DataLoader worker (pid 7) exited unexpectedly")

    # An attribute in Detectron2 0.6, later a property.
    vars(trainer._trainer).pop("_data_loader_iter", None)
    with monkeypatch.context() as patched, pytest.raises(SystemExit) as stopped:
        patched.setattr(TrainLoop, "_data_loader_iter", fails_in_the_fourth(), raising=False)
        trainer.train()
    assert stopped.value.code == 143
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000002.pth"
    train(tiny_config(tiny_coco, tmp_path, *_QUICK), resume=True)
    assert_same(weights(tmp_path), weights(whole))


def test_a_second_signal_ends_at_once_but_an_echo_of_the_first_does_not(monkeypatch):
    class Loop:
        requested_signal = 0

    now, ended = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("os._exit", ended.append)
    with StopSignals(Loop()) as signals:
        for now[0] in (10.0, 10.1):
            signals._receive(signal.SIGINT, None)
        assert signals.received == signal.SIGINT and not ended
        now[0] = 11.0
        signals._receive(signal.SIGTERM, None)
        assert ended == [143]
        with pytest.raises(Interrupted), signals.breaking():
            pass


def test_a_worker_s_copy_of_the_handler_leaves_the_run_alone():
    class Loop:
        requested_signal = 0

    with StopSignals(Loop()) as signals:
        process = os.fork()
        if not process:
            signals._receive(signal.SIGINT, None)
            os._exit(signals.received)
        assert os.waitpid(process, 0)[1] == 0


def _fail_in_forward(trainer: Trainer, error: Exception) -> None:
    def fail(*_: object) -> None:
        if trainer.iter == 2:
            raise error

    trainer.student.register_forward_pre_hook(fail)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried.\nSee"), "CUDA out of memory. Tried"),
        (KeyError("gt_masks"), "KeyError: 'gt_masks'"),
    ],
)
def test_an_error_in_a_step_is_a_sentence_with_iteration_and_images(
    tiny_coco, tmp_path, error, said
):
    trainer = _trainer(tiny_coco, tmp_path, *_QUICK)
    _fail_in_forward(trainer, error)
    with pytest.raises(TrainingError) as raised:
        trainer.train()
    sentence = str(raised.value)
    assert sentence.startswith("Iteration 2 failed on the images ")
    assert sentence.count(".png") == 2 and sentence.endswith(f": {said}.")
    assert raised.value.__cause__ is error and "\n" not in sentence


def test_a_full_disk_is_a_sentence_with_the_file(tiny_coco, tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    trainer = _trainer(tiny_coco, tmp_path, *_QUICK, "SOLVER.CHECKPOINT_PERIOD", "2")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(TrainingError) as raised:
        trainer.train()
    assert "Iteration 1 failed" in str(raised.value) and "--resume" in str(raised.value)
    assert "model_0000001.pth could not be written" in str(raised.value)
    assert not list(tmp_path.glob(".*.unfinished"))


@pytest.mark.parametrize("workers", ["0", "1"])
def test_an_image_that_is_damaged_meanwhile_is_named(tiny_coco, tmp_path, workers, monkeypatch):
    trainer = _trainer(tiny_coco, tmp_path, *_QUICK, "DATALOADER.NUM_WORKERS", workers)
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"no image")
    records = trainer.data_loader.records
    read = type(records).__getitem__
    # Such as a file on a disk that fails.
    monkeypatch.setattr(
        type(records), "__getitem__", lambda self, i: {**read(self, i), "file_name": str(damaged)}
    )
    with pytest.raises(TrainingError) as raised:
        trainer.train()
    assert "Iteration 0 failed" in str(raised.value) and str(damaged) in str(raised.value)
    assert "\n" not in str(raised.value)
