"""Classes are known by name, or refused in a sentence, before anything is built."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from helpers import tiny
from PIL import Image

from distill.checks import check_config
from distill.data.records import training_records

ABC = ("ant", "bee", "cow")
TEACHER = "DISTILL__TEACHER__CONFIG_FILE"
# The key of each detector's number of classes.
KEYS = {
    "GeneralizedRCNN": "MODEL.ROI_HEADS.NUM_CLASSES",
    "RetinaNet": "MODEL.RETINANET.NUM_CLASSES",
    "ConfigurableFCOS": "MODEL.FCOS.NUM_CLASSES",
    "ATSS": "MODEL.ATSS.NUM_CLASSES",
    "GFL": "MODEL.GFL.NUM_CLASSES",
    "SSD": "MODEL.SSD.NUM_CLASSES",
}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """The dataset that the tiny detectors name, and one whose classes have no names."""
    for name in ("tiny_abc", "own_unnamed"):
        DatasetCatalog.register(name, list)
    yield
    for name in ("tiny_abc", "own_unnamed"):
        DatasetCatalog.remove(name)


def coco(folder: Path, name: str, classes: Sequence[str], **changes: Any) -> str:
    """An image and a box of each class; categories are numbered from 1 in their order."""
    Image.new("RGB", (40, 30)).save(folder / "1.png")
    box = {"image_id": 1, "bbox": [2, 3, 20, 15], "area": 300, "iscrowd": 0}
    content = {
        "info": {},
        "images": [{"id": 1, "file_name": "1.png", "width": 40, "height": 30}],
        "annotations": [{**box, "id": i, "category_id": i} for i in range(1, len(classes) + 1)],
        "categories": [{"id": i, "name": x} for i, x in enumerate(classes, start=1)],
        **changes,
    }
    (folder / f"{name}.json").write_text(json.dumps(content))
    return f"{folder / name}.json@{folder}"


def student(**changes: Any) -> CfgNode:
    return tiny.rcnn_cfg(**{"DATASETS__TEST": (), **changes})


def distilled(teacher: Path, **changes: Any) -> CfgNode:
    random = {"DISTILL__TEACHER__ALLOW_RANDOM": True}
    return tiny.distilled(student(), **{TEACHER: str(teacher), **random, **changes})


def teacher_file(folder: Path, **changes: Any) -> Path:
    (folder / "teacher.yaml").write_text(tiny.rcnn_cfg(**changes).dump())
    return folder / "teacher.yaml"


def refusal(cfg: CfgNode, **options: Any) -> str:
    with pytest.raises(ValueError) as caught:
        check_config(cfg, **options)
    message = str(caught.value)
    assert "\n" not in message and ". " not in message
    return message


@pytest.mark.parametrize("architecture", KEYS)
@pytest.mark.parametrize("number", [2, 80])
def test_a_number_that_is_not_the_datasets_is_refused_for_every_detector(
    tmp_path: Path, architecture: str, number: int
) -> None:
    key = KEYS[architecture]
    node = key.rpartition(".")[0].replace(".", "__")
    changes = {"MODEL__META_ARCHITECTURE": architecture, f"{node}__NUM_CLASSES": number}
    if architecture not in ("GeneralizedRCNN", "SSD"):
        changes[f"{node}__IN_FEATURES"] = ("p2", "p3", "p4")
    cfg = student(DATASETS__TRAIN=(coco(tmp_path, "train", ABC),), **changes)
    for config in (cfg, tiny.distilled(cfg, DISTILL__METHODS=())):
        said = refusal(config)
        assert f"predicts {number} classes ({key})" in said and f"set {key} to 3" in said
    cfg[key.split(".")[0]][key.split(".")[1]].NUM_CLASSES = 3
    check_config(cfg)


def test_a_network_without_classes_may_train_on_any(tmp_path: Path) -> None:
    name = coco(tmp_path, "train", ABC)
    changes = {"MODEL__META_ARCHITECTURE": "ProposalNetwork", "DATASETS__TRAIN": (name,)}
    check_config(student(**changes, MODEL__ROI_HEADS__NUM_CLASSES=80))


def test_training_datasets_of_different_classes_are_refused(tmp_path: Path) -> None:
    names = (coco(tmp_path, "a", ABC), coco(tmp_path, "b", ("ant", "cow", "bee")))
    said = refusal(student(DATASETS__TRAIN=names))
    assert "a.json" in said and "b.json" in said and "same categories" in said


def test_a_test_file_may_have_another_order_and_fewer_classes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = (coco(tmp_path, "a", ("cow", "ant", "bee")), coco(tmp_path, "b", ("bee",)))
    with caplog.at_level(logging.WARNING):
        check_config(student(DATASETS__TEST=names))
    assert (
        "b.json" in caplog.text and "lacks 2 of the student's 3 classes (ant, cow)" in caplog.text
    )
    assert "a.json" not in caplog.text


@pytest.mark.parametrize("training", [True, False])
def test_a_test_file_with_classes_that_the_student_lacks_is_refused(
    tmp_path: Path, training: bool
) -> None:
    cfg = student(DATASETS__TEST=(coco(tmp_path, "test", ("ant", "Bee ", "cow")),))
    said = refusal(cfg, training=training)
    assert 'tiny_abc (Bee ); did you mean "bee" by "Bee "?' in said


def test_an_evaluation_says_which_key_names_the_classes() -> None:
    cfg = student(MODEL__ROI_HEADS__NUM_CLASSES=2)
    assert "or DATASETS.TRAIN to the dataset that it was trained on" in refusal(cfg, training=False)


def test_an_evaluation_without_names_compares_numbers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone = str(tmp_path / "gone.json")
    cfg = student(DATASETS__TRAIN=(gone,), DATASETS__TEST=(coco(tmp_path, "test", ABC),))
    with caplog.at_level(logging.WARNING):
        check_config(cfg, training=False)
    assert "in their order" in caplog.text
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    assert "whose names are not known" in refusal(cfg, training=False)


def test_datasets_that_the_user_registered_are_read_for_their_names(tmp_path: Path) -> None:
    file = coco(tmp_path, "own", ("ant", "bee")).partition("@")[0]
    register_coco_instances("own_two_classes", {}, file, str(tmp_path))
    try:
        said = refusal(student(DATASETS__TRAIN=("own_two_classes",)))
        assert "own_two_classes has 2 (ant, bee)" in said
        check_config(student(DATASETS__TRAIN=("own_two_classes",), MODEL__ROI_HEADS__NUM_CLASSES=2))
        assert len(DatasetCatalog.get("own_two_classes")) == 1
    finally:
        DatasetCatalog.remove("own_two_classes")
        MetadataCatalog.remove("own_two_classes")


def test_labels_beyond_the_classes_are_refused_where_there_are_no_names() -> None:
    box = {"bbox": [2, 3, 20, 15], "bbox_mode": 0, "category_id": 3, "iscrowd": 0}
    record = {"file_name": "1.png", "image_id": 1, "height": 30, "width": 40, "annotations": [box]}
    DatasetCatalog.remove("own_unnamed")
    DatasetCatalog.register("own_unnamed", lambda: [record])
    cfg = student(DATASETS__TRAIN=("own_unnamed",))
    with pytest.raises(ValueError, match=r"labels of 4 classes, but .*NUM_CLASSES is 3: set"):
        training_records(cfg)


def test_pseudo_labels_are_matched_by_name(tmp_path: Path) -> None:
    files = {"DATASETS__PSEUDO": (coco(tmp_path, "a", ("cow", "ant", "elk")),)}
    check_config(student(**files))
    said = refusal(student(DATASETS__PSEUDO=(coco(tmp_path, "b", ("elk", "fox")),)))
    assert "none of the student's classes (ant, bee, cow) but elk, fox" in said
    said = refusal(student(DATASETS__PSEUDO=(coco(tmp_path, "c", ("Ant", "bee")),)))
    assert 'did you mean "ant" by "Ant"?' in said and "merge --aliases" in said
    said = refusal(student(DATASETS__TRAIN=("own_unnamed",), **files))
    assert "the student's are not known" in said and "DISTILL.PSEUDO.CLASSES_OF" in said


def test_a_student_of_pseudo_labels_alone_has_the_number_of_their_classes(tmp_path: Path) -> None:
    cfg = student(DATASETS__TRAIN=(), DATASETS__PSEUDO=(coco(tmp_path, "a", ("ant", "bee")),))
    assert "or DISTILL.PSEUDO.CLASSES_OF" in refusal(cfg)


def test_the_teachers_names_are_read_from_the_file_it_was_trained_on(tmp_path: Path) -> None:
    # Neither images nor the folder have to be there.
    name = coco(tmp_path, "theirs", ("cow", "ant", "elk")).replace(f"@{tmp_path}", "@nowhere")
    teacher = teacher_file(tmp_path, DATASETS__TRAIN=(name,))
    assert "does not know 1 of the student's 3 classes (bee)" in refusal(distilled(teacher))
    coco(tmp_path, "theirs", ("cow", "ant", "bee"))
    check_config(distilled(teacher))
    # What the file said before it was removed is not remembered.
    (tmp_path / "theirs.json").unlink()
    assert "class names of the teacher are not known" in refusal(distilled(teacher))


@pytest.mark.parametrize(
    ("train", "test"),
    [(("gone.json",), ()), ((), ()), ((), ("tiny_abc",)), (("tiny_unnamed",), ())],
)
def test_a_teacher_of_unknown_names_is_refused_though_numbers_are_equal(
    tmp_path: Path, train: tuple[str, ...], test: tuple[str, ...]
) -> None:
    teacher = teacher_file(tmp_path, DATASETS__TRAIN=train, DATASETS__TEST=test)
    said = refusal(distilled(teacher))
    assert "class names of the teacher are not known" in said and "DISTILL.TEACHER.CLASSES" in said
    check_config(distilled(teacher, DISTILL__TEACHER__CLASSES=("bee", "ant", "cow")))
    # The neck knows no classes.
    check_config(distilled(teacher, DISTILL__METHODS=("PKD",)))
    # Its evaluation does.
    cfg = distilled(teacher, DISTILL__METHODS=("PKD",))
    assert "the teacher are not known" in refusal(cfg, compares_teacher=True)


def test_a_student_of_unknown_names_is_refused_though_numbers_are_equal(tmp_path: Path) -> None:
    teacher = teacher_file(tmp_path)
    said = refusal(distilled(teacher, DATASETS__TRAIN=("own_unnamed",)))
    assert "class names of the student are not known" in said and "thing_classes" in said


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        (("ant", "bee"), "has 2 names, but the teacher predicts 3"),
        (("ant", "bee", "ant"), 'has "ant" twice'),
        (("ant", "BEE", "cow"), 'did you mean "BEE" by "bee"?'),
    ],
)
def test_given_names_of_the_teacher_are_those_of_all_its_classes(
    tmp_path: Path, classes: tuple[str, ...], sentence: str
) -> None:
    teacher = teacher_file(tmp_path)
    assert sentence in refusal(distilled(teacher, DISTILL__TEACHER__CLASSES=classes))


def test_a_teacher_of_another_number_than_its_dataset_is_refused(tmp_path: Path) -> None:
    teacher = teacher_file(tmp_path, MODEL__ROI_HEADS__NUM_CLASSES=80)
    said = refusal(distilled(teacher))
    assert "teacher predicts 80 classes" in said and "has 3 (ant, bee, cow)" in said
