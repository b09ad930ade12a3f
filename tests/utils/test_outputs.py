"""What would lose a file, or can't be written, is said before a command begins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from distill.utils.outputs import check_name, check_output_file, check_output_folder, name_for_file


@pytest.mark.parametrize("way", ["itself", "relative", "symlink", "hard link", "linked folder"])
def test_an_input_is_no_output_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    (tmp_path / "in").mkdir()
    read = tmp_path / "in" / "a.json"
    read.write_text("{}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "soft.json").symlink_to(read)
    os.link(read, tmp_path / "hard.json")
    (tmp_path / "folder").symlink_to(tmp_path / "in", target_is_directory=True)
    ways = {
        "itself": read,
        "relative": "in/../in/a.json",
        "symlink": "soft.json",
        "hard link": "hard.json",
        "linked folder": "folder/a.json",
    }
    with pytest.raises(ValueError, match="^--output .*which is read and would be lost"):
        check_output_file(ways[way], "--output", ["other.json", read])
    check_output_file("in/b.json", "--output", [read])


def test_what_cannot_be_written_is_named_by_its_option(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for place in ("file", "file/a/b", "loop/a"):
        with pytest.raises(ValueError, match=f"^--output: .*{place.split('/')[0]} is no folder"):
            check_output_folder(tmp_path / place, "--output")
    with pytest.raises(ValueError, match="^--output .* is a folder"):
        check_output_file(tmp_path, "--output")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="^--output .*pipe is a device or pipe"):
        check_output_file(tmp_path / "pipe", "--output")
    with pytest.raises(ValueError, match="^--output: a name in .* is too long"):
        check_output_folder(tmp_path / ("n" * 300) / "x", "--output")
    check_output_folder(tmp_path / "new" / "folder", "--output")
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="may not be written to"):
        check_output_folder(tmp_path / "new", "--output")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc", "a\\b", "C:x", "a\0", "a\nb", "nul.txt", "x."]
)
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="^the name .* is no plain name"):
        check_name(name, "the name")
    assert "/" not in name_for_file(name) and name_for_file(name) not in (".", "..")


def test_ordinary_names_stay_as_they_are() -> None:
    for name in ("long_adl-2.5", "tadf (c1x1)", "voc_2007_trainval", "café", "_x"):
        check_name(name, "the name")
        assert name_for_file(name) == name
