from __future__ import annotations

from pathlib import Path

import pytest

from distill.data.coco_json.folders import ImageFolder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("images/a b.png", "images/c%20d.png", "images/sub/e.png", "images/f\\g.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "images"


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("a b.png", "a b.png"),
        ("a%20b.png", "a b.png"),
        ("c%20d.png", "c%20d.png"),
        ("sub/e.png", "sub/e.png"),
        ("images/sub/e.png", "sub/e.png"),
        ("./images/a%20b.png", "a b.png"),
        ("/somewhere/else/images/a b.png", "a b.png"),
        ("C:/mine/images/a b.png", "a b.png"),
        ("https://host/my/images/sub/e.png?x=1".partition("?")[0], "sub/e.png"),
        ("/a b.png", "a b.png"),
        ("f/g.png", "f\\g.png"),
    ],
)
def test_an_image_is_found_by_what_files_have_for_its_name(root, written, found):
    assert ImageFolder(root).find(written) == f"{root}/{found}"


@pytest.mark.parametrize("name", ["e.png", "other/a b.png", "A b.png"])
def test_a_file_of_another_folder_or_name_is_not_taken(root, name):
    assert ImageFolder(root).find(name) == f"{root}/{name}"
    assert not ImageFolder(root).holds(f"{root}/{name}")


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    folder = ImageFolder(tmp_path / "nowhere")
    assert folder.find("a.png") == str(tmp_path / "nowhere" / "a.png")
