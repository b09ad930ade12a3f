"""What all processes share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distill.utils.distributed import from_main_process, mean_over_devices


def test_a_normalizer_is_at_least_one() -> None:
    assert mean_over_devices(torch.tensor(0)).item() == 1
    assert mean_over_devices(torch.tensor(0.5)).item() == 1
    assert mean_over_devices(torch.tensor(7)).item() == 7


def test_a_normalizer_is_the_mean_over_all_processes(tmp_path: Path) -> None:
    # fork: a spawned process could not import this file.
    torch.multiprocessing.start_processes(
        normalize, (str(tmp_path),), nprocs=2, start_method="fork"
    )
    values = [torch.load(tmp_path / f"{rank}.pt").tolist() for rank in range(2)]
    # Of 2 and 6, and of 0 and 1 but at least 1.
    assert values == [[4.0, 1.0]] * 2


def test_the_main_process_answers_for_all_of_them(tmp_path: Path) -> None:
    assert from_main_process(lambda: "alone") == "alone"
    torch.multiprocessing.start_processes(ask, (str(tmp_path),), nprocs=2, start_method="fork")
    assert [(tmp_path / str(rank)).read_text() for rank in range(2)] == ["rank 0"] * 2


def test_no_process_waits_for_a_main_one_that_failed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="alone"):
        from_main_process(fail)
    torch.multiprocessing.start_processes(
        ask_in_vain, (str(tmp_path),), nprocs=2, start_method="fork"
    )
    said = "FileNotFoundError: alone, RuntimeError: Unportable: no copy"
    assert [(tmp_path / str(rank)).read_text() for rank in range(2)] == [said] * 2


def fail() -> None:
    raise FileNotFoundError("alone")


class Unportable(Exception):
    """An error that can't be made from its text."""

    def __init__(self) -> None:
        super().__init__("no copy")


def fail_without_copy() -> None:
    raise Unportable


def normalize(rank: int, folder: str) -> None:
    """One process: the normalizers of its own values."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    values = [mean_over_devices(torch.tensor(x[rank])) for x in ((2, 6), (0, 1))]
    torch.save(torch.stack(values), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def ask(rank: int, folder: str) -> None:
    """One process: the main one's answer."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    Path(folder, str(rank)).write_text(from_main_process(lambda: f"rank {rank}"))
    torch.distributed.destroy_process_group()


def ask_in_vain(rank: int, folder: str) -> None:
    """One process: what it hears of errors in the main one."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    heard = []
    for compute in (fail, fail_without_copy):
        try:
            from_main_process(compute)
        except Exception as error:
            heard.append(f"{type(error).__name__}: {error}")
    Path(folder, str(rank)).write_text(", ".join(heard))
    torch.distributed.destroy_process_group()
