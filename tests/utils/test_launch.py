"""Options that can't be meant, machines that do not come, and how the end of a run is told."""

from __future__ import annotations

import argparse
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from torch import distributed

from distill.engine import training_parser
from distill.utils import launch, machines
from distill.utils.distributed import ECHO_STATUS, is_echo
from distill.utils.launch import launch_training
from distill.utils.machines import check_processes, meet_machines


def _args(*options: str) -> argparse.Namespace:
    return training_parser().parse_args(["--num-gpus", "0", *options])


_TWO = ("--num-machines", "2")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--num-processes", "0"), "--num-processes 0 is too few"),
        (("--num-processes", "-3"), "--num-processes -3 is too few"),
        (("--num-gpus", "-1"), "--num-gpus -1 is too few"),
        (("--num-machines", "0"), "--num-machines 0 is too few"),
        ((*_TWO, "--machine-rank", "2"), "--machine-rank 2 is none of --num-machines 2"),
        (("--machine-rank", "1"), "--machine-rank 1 is none of --num-machines 1"),
        (("--machine-rank", "-1"), "--machine-rank -1 is none of"),
        ((*_TWO, "--dist-url", "host:29500"), "--dist-url host:29500 is not an address"),
        ((*_TWO, "--dist-url", "tcp://host"), "--dist-url tcp://host is not an address"),
        ((*_TWO, "--dist-url", "tcp://host:port"), "--dist-url tcp://host:port is not"),
        ((*_TWO, "--dist-url", "tcp://host:99999"), "--dist-url tcp://host:99999 is not"),
        ((*_TWO, "--dist-url", "auto"), "--dist-url auto is not an address"),
    ],
)
def test_a_number_of_processes_that_can_not_be_meant_is_a_sentence(options, said, capsys):
    with pytest.raises(SystemExit) as left:
        launch_training(lambda _: pytest.fail("it ran"), _args(*options))
    errors = capsys.readouterr().err
    assert left.value.code == 2 and errors.startswith(f"error: {said}")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:29500", "file:///shared/meet", "env://"])
def test_addresses_where_machines_can_meet(url):
    check_processes(_args(*_TWO, "--dist-url", url))


def test_more_gpus_than_there_are_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="--num-gpus 2 is more than this machine has"):
        check_processes(training_parser().parse_args(["--num-gpus", "2"]))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_machine_that_does_not_come_is_named_and_not_waited_for_longer(
    rank, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(machines, "_BETWEEN_MESSAGES", 0.3)
    url = (tmp_path / "meet").as_uri()
    args = _args(*_TWO, "--machine-rank", str(rank), "--dist-url", url, "--wait-for-machines", "1")
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=f"Machine {1 - rank} of 2 did not come") as raised:
        meet_machines(args, 1, rank)
    assert time.monotonic() - start < 5 and "--wait-for-machines" in str(raised.value)
    assert f"Waiting for machine {1 - rank} of 2 at {url}" in capsys.readouterr().err


def test_a_first_machine_that_does_not_listen_is_named(monkeypatch):
    monkeypatch.setattr(machines, "_BETWEEN_MESSAGES", 1.0)
    url = ("--dist-url", "tcp://127.0.0.1:9", "--wait-for-machines", "1")
    args = _args(*_TWO, "--machine-rank", "1", *url)
    with pytest.raises(TimeoutError, match="Machine 0 of 2 did not come to --dist-url tcp://127"):
        meet_machines(args, 1, 1)


@pytest.mark.parametrize(
    ("ends", "first", "received", "status", "said"),
    [
        ({0, 2}, 2, 0, 2, ""),
        ({2, ECHO_STATUS, -15}, ECHO_STATUS, 0, 2, ""),
        ({-9, ECHO_STATUS}, ECHO_STATUS, 0, 2, "ended by SIGKILL"),
        ({ECHO_STATUS, -15}, ECHO_STATUS, 0, 2, "on another machine"),
        ({143, -15}, 143, 0, 143, ""),
        ({-15}, -15, 0, 143, ""),
        ({143}, 143, 15, 143, ""),
        ({143}, 143, 2, 130, ""),
    ],
)
def test_the_end_of_a_run_is_that_of_the_process_that_knows_why(
    ends, first, received, status, said, capsys
):
    with pytest.raises(SystemExit) as left:
        launch._exit_like(ends, first, received)
    errors = capsys.readouterr().err
    assert left.value.code == status
    assert said in errors and bool(said) == bool(errors)


def _lose_the_other(rank: int, folder: str) -> None:
    url = f"file://{folder}/rendezvous"
    distributed.init_process_group("gloo", init_method=url, world_size=2, rank=rank)
    if rank:
        os.kill(os.getpid(), signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        distributed.all_reduce(torch.zeros(1))
    except RuntimeError as error:
        outer = KeyError("outer")
        outer.__cause__ = error
        found = is_echo(error), is_echo(outer), is_echo(RuntimeError("own"))
        Path(folder, "found").write_text(str(found))


def test_an_error_because_another_process_is_gone_is_told_from_one_s_own(tmp_path):
    with pytest.raises(torch.multiprocessing.ProcessExitedException):
        # fork: a spawned process could not import this file.
        torch.multiprocessing.start_processes(
            _lose_the_other, args=(str(tmp_path),), nprocs=2, start_method="fork"
        )
    assert (tmp_path / "found").read_text() == "(True, True, False)"
    assert not is_echo(RuntimeError("gloo"))  # Nobody else is there.
