"""Images that can't be used are left out and counted, if the config says so."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from helpers import tiny, tiny_labeling
from torch.utils.data import Dataset

from distill.data import usable_records as module
from distill.data.image_files import unusable
from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import PseudoLabels
from distill.data.pseudo.records import load_pseudo_records
from distill.data.usable_records import usable_records


@pytest.fixture
def records(tmp_path: Path) -> list[dict]:
    """Five images, of which 1 is missing and 3 is text."""
    paths = tiny_labeling.write_noise(tmp_path / "images", 5)
    paths[1].unlink()
    paths[3].write_text("no image")
    return [{"file_name": str(path), "image_id": i} for i, path in enumerate(paths)]


def skipping(**changes: object) -> CfgNode:
    return tiny.rcnn_cfg(DATALOADER__SKIP_UNREADABLE=True, **changes)


def test_without_the_key_they_are_refused(records: list[dict]) -> None:
    with pytest.raises(FileNotFoundError, match="1 of 5 images of DATASETS.TRAIN a, b are missing"):
        usable_records(tiny.rcnn_cfg(), records, "TRAIN", "a", "b")


def test_with_the_key_the_others_stay_in_their_order_and_the_log_counts(
    records: list[dict], caplog: pytest.LogCaptureFixture
) -> None:
    found = usable_records(skipping(), records, "TRAIN", "a")
    assert [x["image_id"] for x in found] == [0, 2, 4]
    assert "1 of 5 images of DATASETS.TRAIN a are missing" in caplog.text
    assert "1 are damaged" in caplog.text and "goes on without them" in caplog.text


def test_a_dataset_of_torch_may_hold_the_records(records: list[dict]) -> None:
    class Held(Dataset):
        def __len__(self) -> int:
            return len(records)

        def __getitem__(self, number: int) -> dict:
            return records[number]

    found = usable_records(skipping(), Held(), "TRAIN", "a")
    assert [found[i]["image_id"] for i in range(len(found))] == [0, 2, 4]


def test_a_dataset_without_any_usable_image_is_refused_all_the_same(records: list[dict]) -> None:
    with pytest.raises(FileNotFoundError, match="1 of 1 images of DATASETS.TEST a are missing"):
        usable_records(skipping(), records[1:2], "TEST", "a")


def test_images_at_addresses_are_said_once_not_to_be_looked_at(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SAID", set())
    caplog.set_level(logging.INFO)
    far = [{"file_name": f"https://example.com/{i}.png"} for i in range(3)]
    for _ in range(2):
        assert usable_records(tiny.rcnn_cfg(), far, "TRAIN", "a") is far
    assert caplog.text.count("are at addresses, such as https://example.com/0.png") == 1


def test_pseudo_labels_of_images_that_are_left_out_go_with_them(tmp_path: Path) -> None:
    paths = tiny_labeling.write_noise(tmp_path, 3)
    paths[1].unlink()
    images = [
        {"id": 7 + i, "file_name": path.name, "width": 60, "height": 40 + i}
        for i, path in enumerate(paths)
    ]
    boxes = np.array([[i, i, 30 + i, 30] for i in range(3)], float)
    labels = PseudoLabels(np.arange(3), boxes, np.full(3, 0.9), np.arange(3), np.zeros(3, int))
    info = {"image_root": ".", "dataset": None}
    file = PseudoFile(info, images, ("ant", "bee", "cow"), ("t",), labels)
    file.save(tmp_path / "p.json")
    found = load_pseudo_records(skipping(DATASETS__TRAIN=()), str(tmp_path / "p.json"))
    assert [x["image_id"] for x in found] == [7, 9]
    assert [x["annotations"][0]["bbox"][0] for x in found] == [0, 2]


def test_of_several_processes_one_looks_and_all_know(tmp_path: Path, records: list[dict]) -> None:
    torch.multiprocessing.start_processes(
        look, (str(tmp_path), records), nprocs=2, start_method="fork"
    )
    found = [json.loads((tmp_path / str(rank)).read_text()) for rank in range(2)]
    # The main process looks at all that exist, the other at none.
    assert found == [[[0, 2, 4], 4], [[0, 2, 4], 0]]


def look(rank: int, folder: str, records: list[dict]) -> None:
    """One process: which images it keeps, and how many files it has opened."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    looked, size = [], unusable.size_in_header
    unusable.size_in_header = lambda path: looked.append(path) or size(path)
    kept = [x["image_id"] for x in usable_records(skipping(), records, "TRAIN", "a")]
    Path(folder, str(rank)).write_text(json.dumps([kept, len(looked)]))
    torch.distributed.destroy_process_group()
