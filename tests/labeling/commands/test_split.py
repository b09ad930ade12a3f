from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from distill.data.pseudo.file import PseudoFile
from distill.data.pseudo.labels import HUMAN
from distill.labeling.commands import split

_SCRIPT = Path(__file__).parents[3] / "scripts" / "pseudo_label.py"


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """COCO labels of 100 images, of which the first ten have an ant and one a bee."""
    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in range(1, 101)]
    box = {"bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}
    boxes = [{**box, "id": i, "image_id": i, "category_id": 1} for i in range(1, 11)]
    boxes.append({**box, "id": 11, "image_id": 1, "category_id": 2})
    names = [{"id": 1, "name": "ant"}, {"id": 2, "name": "bee"}]
    path = tmp_path / "some.json"
    path.write_text(json.dumps({"images": images, "annotations": boxes, "categories": names}))
    return path


def _run(labels: str | Path, output: Path, *options: str) -> None:
    parser = argparse.ArgumentParser()
    split.add_arguments(parser)
    split.run(parser.parse_args(["--labels", str(labels), "--output", str(output), *options]))


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_each_share_and_seed_is_a_file(labels, tmp_path):
    _run(labels, tmp_path / "out", "--seed", "0", "3")
    assert sorted(_contents(tmp_path / "out")) == sorted(
        f"some_{percent}pct_seed{seed}.json" for percent in (1, 2, 5, 10, 20) for seed in (0, 3)
    )
    file = PseudoFile.load(tmp_path / "out" / "some_20pct_seed3.json")
    assert len(file.images) == 20
    assert file.info["percent"] == 20 and file.info["seed"] == 3 and file.info["source"] == "some"


def test_the_same_command_writes_the_same_bytes(labels, tmp_path):
    for name in ("a", "b"):
        _run(labels, tmp_path / name, "--percent", "2", "20", "--rest")
    assert _contents(tmp_path / "a") == _contents(tmp_path / "b")
    assert len(_contents(tmp_path / "a")) == 4


def test_another_process_draws_the_same(labels, tmp_path):
    _run(labels, tmp_path / "a")
    command = [sys.executable, str(_SCRIPT), "split", "--labels", str(labels)]
    subprocess.run([*command, "--output", str(tmp_path / "b")], check=True, capture_output=True)
    assert _contents(tmp_path / "a") == _contents(tmp_path / "b")


def test_the_rest_is_the_complement(labels, tmp_path):
    _run(labels, tmp_path, "--percent", "20", "--rest")
    files = [
        PseudoFile.load(tmp_path / name)
        for name in ("some_20pct_seed0.json", "some_rest_20pct_seed0.json")
    ]
    ids = [{image["id"] for image in file.images} for file in files]
    assert ids[0] | ids[1] == set(range(1, 101)) and not ids[0] & ids[1]
    assert len(files[1].labels) == 0


def test_a_class_without_a_box_is_told(labels, tmp_path, capsys):
    # All images but the first ten are without a box; 100 % has the bee.
    _run(labels, tmp_path / "out", "--percent", "1", "100")
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line.split(maxsplit=3)[1:] for line in printed.splitlines() if line}
    assert rows["some_100pct_seed0.json"] == ["100", "11", "-"]
    one = PseudoFile.load(tmp_path / "out" / "some_1pct_seed0.json")
    missing = {"ant", "bee"} - {one.class_names[k] for k in one.labels.classes}
    assert missing and rows["some_1pct_seed0.json"][2] == ", ".join(sorted(missing))
    assert "Warning: no box of some classes in some_1pct_seed0.json." in printed


@pytest.fixture
def registered(labels: Path) -> Iterator[str]:
    """The same labels as a dataset."""
    name, root = "split_test", labels.parent
    DatasetCatalog.register(name, lambda: load_coco_json(str(labels), str(root), name))
    MetadataCatalog.get(name).set(thing_classes=["ant", "bee"], image_root=str(root))
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_a_dataset_and_its_file_are_split_alike(labels, registered, tmp_path):
    _run(registered, tmp_path / "a", "--percent", "20")
    _run(f"{labels}@{labels.parent}", tmp_path / "b", "--percent", "20")
    dataset = PseudoFile.load(tmp_path / "a" / "split_test_20pct_seed0.json")
    file = PseudoFile.load(tmp_path / "b" / "some_20pct_seed0.json")
    assert dataset.images == file.images
    assert dataset.labels.boxes.tolist() == file.labels.boxes.tolist()
    assert dataset.info["dataset"] == "split_test" and file.info["dataset"] is None
    assert dataset.info["image_root"] == file.info["image_root"] == str(labels.parent)
    assert dataset.teachers == (HUMAN,) or not len(dataset.labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--percent", "5", "0"), "--percent is 0"),
        (("--seed", "-1"), "--seed is -1"),
        (("--percent", "100", "--rest"), "all were drawn"),
    ],
)
def test_a_bad_option_writes_nothing(labels, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        _run(labels, tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_labels_without_a_box_are_refused(labels, tmp_path):
    content = json.loads(labels.read_text())
    labels.write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(ValueError, match=r"some\.json has no box"):
        _run(labels, tmp_path / "out")
