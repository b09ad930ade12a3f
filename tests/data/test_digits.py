"""The built-in dataset: what it is made of, and how it reaches the disk."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, BoxMode, Instances
from PIL import Image

from distill.data import digits
from distill.data.digits import SPLITS, Split, default_root, prepare_split, register_digits
from distill.data.digits_render import Sources, load_sources, render_image

SMALL = Split(seed=7, num_images=4, digits=(0, 50), photos=("skimage:cat",))


@pytest.fixture(scope="module")
def sources() -> Sources:
    return load_sources(SMALL.digits, ("skimage:cat", "sklearn:china.jpg"))


@pytest.fixture
def registered_in(tmp_path: Path) -> Iterator[Path]:
    """Registers the splits below a temporary folder instead of the user's cache."""

    def unregister() -> None:
        for name in SPLITS:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)

    unregister()
    register_digits(tmp_path)
    yield tmp_path
    unregister()
    register_digits()


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_an_image_is_a_function_of_its_seed_and_of_nothing_global(sources: Sources) -> None:
    np.random.seed(0)
    first, first_boxes = render_image(np.random.default_rng([5, 1]), sources)
    np.random.seed(1)
    again, again_boxes = render_image(np.random.default_rng([5, 1]), sources)
    other, _ = render_image(np.random.default_rng([5, 2]), sources)
    assert np.array_equal(first, again) and first_boxes == again_boxes
    assert not np.array_equal(first, other)


def test_digits_lie_inside_the_image_and_never_overlap(sources: Sources) -> None:
    counts = set()
    for index in range(60):
        pixels, boxes = render_image(np.random.default_rng([0, index]), sources)
        assert pixels.shape == (96, 96, 3) and pixels.dtype == np.uint8
        counts.add(len(boxes))
        for box in boxes:
            assert 0 <= box.x0 < box.x1 <= 96 and 0 <= box.y0 < box.y1 <= 96
            assert 0 <= box.label <= 9
        for a, b in itertools.combinations(boxes, 2):
            assert a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0
    assert counts == {1, 2, 3, 4}


def test_a_digit_stands_out_from_a_plain_photograph_exactly_within_its_box() -> None:
    plain = Image.new("RGB", (200, 200), (128, 128, 128))
    full = Sources(np.full((1, 8, 8), 16.0), np.array([3]), [plain])
    pixels, boxes = render_image(np.random.default_rng(0), full)
    # Averaged over the colors, the noise of sigma 5 stays far below 35 gray levels.
    changed = np.abs(pixels.mean(axis=2) - 128.0) > 25.0
    covered = np.zeros_like(changed)
    for box in boxes:
        covered[box.y0 : box.y1, box.x0 : box.x1] = True
        assert box.label == 3
        rows, columns = changed[box.y0 : box.y1, box.x0 : box.x1].nonzero()
        assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (
            box.y1 - box.y0,
            box.x1 - box.x0,
        )
    assert not changed[~covered].any()


def test_the_hidden_labels_of_the_unlabeled_split_are_named_by_its_metadata(
    registered_in: Path,
) -> None:
    hidden = MetadataCatalog.get("digits_unlabeled").labels_json
    assert hidden == str(registered_in / "digits_unlabeled" / "digits_unlabeled_labels.json")
    assert MetadataCatalog.get("digits_train").get("labels_json") is None


def test_a_split_is_the_same_bytes_wherever_it_is_made(tmp_path: Path) -> None:
    one = prepare_split("small", tmp_path / "one", SMALL)
    two = prepare_split("small", tmp_path / "two", SMALL)
    assert contents(one) == contents(two)
    assert len(contents(one)) == SMALL.num_images + 1


def test_a_split_that_exists_is_left_alone(tmp_path: Path) -> None:
    folder = prepare_split("small", tmp_path, SMALL)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    prepare_split("small", tmp_path, SMALL)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_an_unlabeled_split_hides_its_boxes_in_a_second_file(tmp_path: Path) -> None:
    hidden = dataclasses.replace(SMALL, labeled=False)
    folder = prepare_split("small", tmp_path, hidden)
    shown = json.loads((folder / "small.json").read_text())
    labels = json.loads((folder / "small_labels.json").read_text())
    assert shown["annotations"] == [] and len(shown["images"]) == SMALL.num_images
    assert labels["images"] == shown["images"] and len(labels["annotations"]) >= SMALL.num_images


def test_a_split_that_failed_half_way_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    no_digits = dataclasses.replace(SMALL, digits=(0, 0))
    with pytest.raises(ValueError):
        prepare_split("small", tmp_path, no_digits)
    assert not (tmp_path / "small").exists()
    (tmp_path / ".small.partial" / "images" / "999999.png").write_bytes(b"half an image")
    folder = prepare_split("small", tmp_path, SMALL)
    assert contents(folder) == contents(prepare_split("small", tmp_path / "fresh", SMALL))
    assert not (tmp_path / ".small.partial").exists()


def test_two_processes_that_start_at_once_make_one_whole_split(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from distill.data.digits import Split, prepare_split\n"
        "split = Split(seed=7, num_images=200, digits=(0, 50), photos=('skimage:cat',))\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "prepare_split('race', Path(sys.argv[1]), split)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
    pipe = subprocess.PIPE
    racers = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)
    ]
    for racer in racers:
        assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        _, errors = racer.communicate(timeout=120)
        assert racer.returncode == 0, errors
    assert len(contents(tmp_path / "race")) == 201
    assert sorted(path.name for path in tmp_path.iterdir()) == ["race", "race.lock"]


def test_a_folder_that_cannot_be_written_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="cannot be written to .*file.*DETECTRON2_DATASETS"):
        prepare_split("small", tmp_path / "file", SMALL)


@pytest.mark.parametrize("module", ["sklearn.datasets", "skimage.data"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"missing: pip install 'detectron2-distill\[demo\]'"):
        prepare_split("small", tmp_path, SMALL)


def test_importing_reads_neither_scikit_learn_nor_the_disk(tmp_path: Path) -> None:
    code = (
        "import sys, distill.data.digits\n"
        "assert 'sklearn' not in sys.modules and 'skimage' not in sys.modules\n"
    )
    environment = {"DETECTRON2_DATASETS": str(tmp_path / "data"), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environment, check=True)
    assert not (tmp_path / "data").exists()


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", "/some/datasets")
    assert default_root() == Path("/some/datasets/digits-v1")
    monkeypatch.delenv("DETECTRON2_DATASETS")
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/cache")
    assert default_root() == Path("/some/cache/distill/digits-v1")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_root() == Path.home() / ".cache" / "distill" / "digits-v1"


def test_registering_twice_changes_nothing(registered_in: Path) -> None:
    register_digits()
    register_digits(registered_in / "elsewhere")
    for name in SPLITS:
        metadata = MetadataCatalog.get(name)
        assert metadata.thing_classes == list(SPLITS[name].classes)
        assert metadata.evaluator_type == "coco"
        assert metadata.json_file == str(registered_in / name / f"{name}.json")


def test_ground_truth_as_predictions_scores_100_with_detectron2(
    registered_in: Path, tmp_path: Path
) -> None:
    records = DatasetCatalog.get("digits_val")
    evaluator = COCOEvaluator("digits_val", output_dir=None)
    evaluator.reset()
    for record in records:
        found = Instances((record["height"], record["width"]))
        boxes = [
            BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS)
            for a in record["annotations"]
        ]
        found.pred_boxes = Boxes(boxes)
        found.scores = np.ones(len(boxes))
        found.pred_classes = np.array([a["category_id"] for a in record["annotations"]])
        evaluator.process([record], [{"instances": found}])
    assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100.0)


@pytest.mark.parametrize("damage", ["truncated", "empty", "no image"])
def test_a_damaged_split_is_named_with_what_to_delete(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SPLITS, "small", SMALL)
    folder = prepare_split("small", tmp_path, SMALL)
    path = folder / "small.json"
    if damage == "truncated":
        path.write_text(path.read_text()[:100])
    elif damage == "empty":
        path.write_text("{}")
    else:
        (folder / "images" / "000002.png").unlink()
    with pytest.raises(RuntimeError, match=f"{path} .*delete the folder {folder}"):
        digits._load("small", tmp_path)
