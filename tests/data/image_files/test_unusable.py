"""Files that can't be used are found by their headers, or whole, and only once."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import tiny_labeling

from distill.data.image_files import memory, unusable
from distill.data.image_files.unusable import Unusable, find_unusable


@pytest.fixture
def records(tmp_path: Path) -> list[dict]:
    """Twelve images of 60 x 40, 41, ... pixels; 1 is missing, 2 is text, 3 larger, 4 is cut."""
    paths = tiny_labeling.write_noise(tmp_path / "images", 12)
    paths[1].unlink()
    paths[2].write_text("no image")
    paths[4].write_bytes(paths[4].read_bytes()[:3000])
    records = [
        {"file_name": str(path), "width": 60, "height": 40 + i} for i, path in enumerate(paths)
    ]
    records[3]["height"] = 40
    return records


def test_each_kind_is_told_in_the_order_of_the_records(records: list[dict]) -> None:
    found = find_unusable(records)
    assert [(x.number, x.kind) for x in found] == [
        (1, "missing"),
        (2, "damaged"),
        (3, "of another size than their record says"),
    ]
    assert [x.path for x in found] == [records[i]["file_name"] for i in (1, 2, 3)]
    assert found[2].reason == "it has 60x43 pixels, but its record says 60x40"


def test_pixels_are_read_if_asked_for(records: list[dict]) -> None:
    found = find_unusable(records, decode=True)
    assert [x.number for x in found] == [1, 2, 3, 4]
    assert "truncated" in found[-1].reason


def test_a_size_may_be_unknown_and_a_file_elsewhere(records: list[dict]) -> None:
    for record in records:
        del record["width"], record["height"]
    records[1] = {"file_name": "https://example.com/x.png"}
    records[2] = {"image_id": 3}
    assert find_unusable(records) == []


def test_files_are_looked_at_anew_only_when_they_change(
    records: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = find_unusable(records)
    looked = []
    look = unusable.size_in_header
    monkeypatch.setattr(unusable, "size_in_header", lambda path: looked.append(path) or look(path))
    assert find_unusable(records) == before and not looked
    tiny_labeling.write_noise(Path(records[0]["file_name"]).parent, 12)
    assert [x.number for x in find_unusable(records)] == [3]
    assert len(looked) == 12


def test_what_was_found_outlives_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    row = [3, "missing", "x.png", "there is no such file"]
    memory.remember("of-a-test", [row], on_disk=True)
    del memory._KNOWN["of-a-test"]
    assert [Unusable(*x) for x in memory.recall("of-a-test")] == [Unusable(*row)]
    (tmp_path / "distill_images" / "damaged.json").write_text("[[1,")
    assert memory.recall("damaged") is None


def test_a_place_that_can_not_be_written_only_costs_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "file"))
    memory.remember("nowhere", [], on_disk=True)
    del memory._KNOWN["nowhere"]
    assert memory.recall("nowhere") is None
