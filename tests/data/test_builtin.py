"""Datasets are checked before training, with an error that says where their files belong."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances, register_pascal_voc

from distill.data import check_datasets
from distill.data.digits import SPLITS


@pytest.fixture
def forget() -> Iterator[list[str]]:
    """Names put into this list are unregistered when the test ends."""
    names: list[str] = []
    yield names
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def coco(tmp_path: Path, forget: list[str]) -> str:
    """A COCO dataset whose files do not exist."""
    name = "a_coco_dataset"
    register_coco_instances(name, {}, str(tmp_path / "a.json"), str(tmp_path / "images"))
    forget.append(name)
    return name


@pytest.fixture
def voc(tmp_path: Path, forget: list[str]) -> str:
    """A VOC dataset whose files do not exist."""
    name = "a_voc_dataset"
    register_pascal_voc(name, str(tmp_path), "trainval", 2007)
    MetadataCatalog.get(name).evaluator_type = "pascal_voc"
    forget.append(name)
    return name


def test_an_unknown_name_is_refused_with_near_matches() -> None:
    with pytest.raises(ValueError, match="DATASETS.TEST has digits_tets.*did you mean digits_test"):
        check_datasets(["digits_tets"], key="DATASETS.TEST")


def test_a_name_like_no_other_is_refused() -> None:
    with pytest.raises(ValueError, match="zzzzzzzz, which is not a registered dataset: register"):
        check_datasets(["zzzzzzzz"])


def test_a_json_file_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(ValueError, match="DATASETS.TEST has .*a.json.*, which lists no image"):
        check_datasets((f"{tmp_path}/a.json@{tmp_path}",), key="DATASETS.TEST")


def test_a_json_file_without_boxes_can_be_trained_on_but_not_tested(tmp_path: Path) -> None:
    image = '{"id": 1, "file_name": "1.png", "width": 4, "height": 4}'
    (tmp_path / "a.json").write_text(
        f'{{"images": [{image}], "annotations": [], "categories": []}}'
    )
    name = f"{tmp_path}/a.json@{tmp_path}"
    check_datasets((name,), key="DATASETS.TRAIN")
    with pytest.raises(ValueError, match="DATASETS.TEST has .*a.json.*, which has no box"):
        check_datasets((name,), key="DATASETS.TEST")


def test_missing_coco_files_are_named_one_after_the_other(coco: str, tmp_path: Path) -> None:
    advice = "DETECTRON2_DATASETS to the folder .*coco/annotations/instances_train2017.json"
    with pytest.raises(FileNotFoundError, match=f"DATASETS.TRAIN has {coco}.*a.json.*{advice}"):
        check_datasets((coco,))
    (tmp_path / "a.json").write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(FileNotFoundError, match="images is missing"):
        check_datasets((coco,))
    (tmp_path / "images").mkdir()
    check_datasets((coco,))


def test_missing_voc_files_are_named_one_after_the_other(voc: str, tmp_path: Path) -> None:
    lists = tmp_path / "ImageSets" / "Main"
    advice = "DETECTRON2_DATASETS to the folder .*VOC2007/ImageSets/Main/trainval.txt"
    with pytest.raises(FileNotFoundError, match=f"{lists / 'trainval.txt'} is missing.*{advice}"):
        check_datasets([voc])
    lists.mkdir(parents=True)
    (lists / "trainval.txt").write_text("")
    with pytest.raises(FileNotFoundError, match="Annotations is missing"):
        check_datasets([voc])
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "JPEGImages").mkdir()
    check_datasets([voc])


def test_the_error_says_where_the_variable_points_now(
    coco: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", "/wrong/place")
    with pytest.raises(FileNotFoundError, match=r"\(it is /wrong/place\)"):
        check_datasets([coco])
    monkeypatch.delenv("DETECTRON2_DATASETS")
    with pytest.raises(FileNotFoundError, match=r"not set, which means \./datasets"):
        check_datasets([coco])


def test_a_dataset_without_files_of_its_own_passes(forget: list[str]) -> None:
    DatasetCatalog.register("in_memory", list)
    forget.append("in_memory")
    check_datasets(["in_memory"])


def test_a_built_in_dataset_is_made_when_it_is_checked(
    tmp_path: Path, forget: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = dataclasses.replace(SPLITS["digits_val"], num_images=2)
    monkeypatch.setitem(SPLITS, "digits_few", few)
    folder = tmp_path / "digits_few"
    register_coco_instances(
        "digits_few", {}, str(folder / "digits_few.json"), str(folder / "images")
    )
    forget.append("digits_few")
    check_datasets(["digits_few"])
    assert len(list((folder / "images").iterdir())) == 2
