"""Files that can't be used are found by their headers, or whole, and only once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers import tiny_labeling

from distill.data.image_files import memory, unusable
from distill.data.image_files.unusable import find_unusable


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


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose headers are read from now on."""
    looked, look = [], unusable.size_in_header
    monkeypatch.setattr(unusable, "size_in_header", lambda path: looked.append(path) or look(path))
    return looked


def test_good_files_are_looked_at_anew_only_when_they_change(
    tmp_path: Path, looked: list[str]
) -> None:
    paths = tiny_labeling.write_noise(tmp_path, 3)
    records = [{"file_name": str(path)} for path in paths]
    assert find_unusable(records) == find_unusable(records) == []
    assert sorted(looked) == sorted(map(str, paths))
    paths[2].write_bytes(paths[1].read_bytes())
    assert find_unusable(records) == [] and len(looked) == 6
    # Another size is said: the same files may not suit any more.
    assert len(find_unusable([{**x, "width": 59} for x in records])) == 3


def test_what_was_wrong_for_a_moment_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = tiny_labeling.write_noise(tmp_path, 1)

    def fail(path: str) -> None:
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as patched:
        patched.setattr(unusable, "size_in_header", fail)
        (found,) = find_unusable([{"file_name": str(path)}])
        assert found.reason == "Stale file handle"
    assert find_unusable([{"file_name": str(path)}]) == []


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    records = [{"file_name": str(tmp_path / name)} for name in ("pipe.png", "folder.png")]
    for decode in (False, True):
        reasons = [x.reason for x in find_unusable(records, decode=decode)]
        assert reasons == ["it is no file"] * 2


def test_what_was_found_outlives_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    memory.remember_good("of-a-test", on_disk=True)
    memory.remember_good("of-this-process", on_disk=False)
    memory._GOOD.clear()
    assert memory.is_known_good("of-a-test") and not memory.is_known_good("of-this-process")


def test_a_place_that_can_not_be_written_only_costs_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "file"))
    memory.remember_good("nowhere", on_disk=True)
    memory._GOOD.clear()
    assert not memory.is_known_good("nowhere")
