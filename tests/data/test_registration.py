from __future__ import annotations

import json
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from distill.data import check_datasets
from distill.data.registration import file_stem, is_json_dataset, json_path, register_json_dataset


def _write(folder: Path, **info: object) -> Path:
    path = folder / "boxes.json"
    box = {"id": 4, "image_id": 2, "category_id": 9, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}
    content = {
        "info": info,
        "images": [{"id": 2, "file_name": "a.png", "width": 30, "height": 20}],
        "annotations": [{**box, "score": 0.5}],
        "categories": [{"id": 9, "name": "bee"}],
    }
    path.write_text(json.dumps(content))
    return path


def test_a_path_and_a_folder_make_a_name():
    assert is_json_dataset("x.json") and is_json_dataset("a/x.json@/data/b@c")
    assert not is_json_dataset("coco_2017_train")
    assert json_path("a/x.json@/data/b@c") == Path("a/x.json") == json_path("a/x.json")
    assert [file_stem(x) for x in ("/a/x.json@/b", "coco_2017_train")] == ["x", "coco_2017_train"]
    # What is registered under any name stays in the folder of its results.
    assert [file_stem(x) for x in ("../a/b", "..")] == ["_.._a_b", "_.."]


def test_a_file_is_a_dataset_of_detectron2(tmp_path):
    name = str(_write(tmp_path, image_root=str(tmp_path)))
    check_datasets((name,))
    (record,) = DatasetCatalog.get(name)
    assert record["file_name"] == str(tmp_path / "a.png")
    (box,) = record["annotations"]
    assert (box["bbox"], box["bbox_mode"]) == ([1, 2, 3, 4], BoxMode.XYWH_ABS)
    assert box["category_id"] == 0
    metadata = MetadataCatalog.get(name)
    assert metadata.thing_classes == ["bee"] and metadata.evaluator_type == "coco"


def test_a_changed_file_is_registered_anew(tmp_path):
    path = _write(tmp_path, image_root=".")
    register_json_dataset(str(path))
    path.write_text(path.read_text().replace("bee", "wasp"))
    register_json_dataset(str(path))
    assert MetadataCatalog.get(str(path)).thing_classes == ["wasp"]


def test_images_are_where_the_name_then_the_dataset_then_the_header_says(tmp_path):
    for folder in ("named", "registered", "header"):
        (tmp_path / folder).mkdir()

    def root(name: str) -> str:
        register_json_dataset(name)
        return Path(MetadataCatalog.get(name).image_root).name

    path = _write(tmp_path, image_root="header", dataset="registration_bees")
    assert root(str(path)) == "header"
    if "registration_bees" not in DatasetCatalog.list():
        DatasetCatalog.register("registration_bees", list)
    MetadataCatalog.get("registration_bees").image_root = str(tmp_path / "registered")
    assert root(str(path)) == "registered"
    assert root(f"{path}@{tmp_path / 'named'}") == "named"


def test_a_folder_that_is_missing_is_told_with_the_way_out(tmp_path):
    path = _write(tmp_path, image_root="/nowhere")
    with pytest.raises(
        FileNotFoundError, match=r"not in /nowhere: write .*boxes.json@FOLDER.*a\.png"
    ):
        register_json_dataset(str(path))
    with pytest.raises(FileNotFoundError, match="not in /elsewhere"):
        register_json_dataset(f"{path}@/elsewhere")


def test_a_missing_file_is_told():
    with pytest.raises(FileNotFoundError, match="none.json does not exist"):
        check_datasets(("none.json",))


@pytest.mark.parametrize("place", [".", "images"])
def test_images_beside_a_file_need_no_folder(tmp_path, place):
    path = _write(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"not in its folder, nor .* images .*: write"):
        register_json_dataset(str(path))
    image = tmp_path / place / "a.png"
    image.parent.mkdir(exist_ok=True)
    image.touch()
    register_json_dataset(str(path))
    (record,) = DatasetCatalog.get(str(path))
    assert Path(record["file_name"]) == image


@pytest.mark.parametrize("name", ["images/b%20c.png", "images\\\\b c.png", "b%20c.png"])
def test_images_are_found_by_the_names_that_exporters_write(tmp_path, name):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "b c.png").touch()
    path = _write(tmp_path)
    path.write_text(path.read_text().replace("a.png", name))
    for dataset in (str(path), f"{path}@{tmp_path / 'images'}"):
        register_json_dataset(dataset)
        (record,) = DatasetCatalog.get(dataset)
        assert Path(record["file_name"]).resolve() == tmp_path / "images" / "b c.png"


def test_a_file_without_annotations_is_a_dataset_of_unlabeled_images_alone(tmp_path):
    path = _write(tmp_path, image_root=".")
    content = json.loads(path.read_text())
    del content["annotations"]
    path.write_text(json.dumps(content))
    for key in ("DATASETS.TRAIN", "DATASETS.TEST", "DATASETS.PSEUDO", "--labels"):
        with pytest.raises(ValueError, match=f"boxes.json: 'annotations' is missing, .*{key}"):
            check_datasets((str(path),), key=key)
    check_datasets((str(path),), key="DATASETS.UNLABELED")
    (record,) = DatasetCatalog.get(str(path))
    assert record["annotations"] == []
