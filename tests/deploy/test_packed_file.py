from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from distill.deploy import packed_file
from distill.deploy.packed_file import PackedHeader, read_packed, write_packed
from distill.utils.checkpoint import CheckpointError

_HEADER = PackedHeader("MODEL: {}\nNAME: Käfer\n", 2, ("ant", "bée"), "0.1.0")


def _tensors() -> dict[str, Tensor]:
    return {
        "conv.packed_weight": torch.arange(6, dtype=torch.uint8).view(2, 3),
        "fc.weight": torch.randn(4, 3).t(),
        "none": torch.zeros(0, 4),
        "count": torch.tensor(5),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.safetensors"
    write_packed(path, _HEADER, _tensors())
    return path


def test_what_is_written_is_read_again(path):
    header, tensors = read_packed(path)
    torch.manual_seed(0)
    expected = _tensors()
    assert header == _HEADER
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    assert all(tensors[name].dtype == expected[name].dtype for name in expected)


def test_writing_replaces_the_file_and_leaves_nothing_beside_it(path):
    write_packed(path, _HEADER, {"other": torch.ones(2)})
    assert list(read_packed(path)[1]) == ["other"]
    assert [x.name for x in path.parent.iterdir()] == [path.name]


def test_a_file_that_cannot_be_written_stays_as_it_was(path):
    shared = torch.zeros(3)
    with pytest.raises(RuntimeError, match="share memory"):
        write_packed(path, _HEADER, {"a": shared, "b": shared})
    assert read_packed(path)[0] == _HEADER
    assert [x.name for x in path.parent.iterdir()] == [path.name]


def test_every_flipped_byte_is_noticed(path):
    content = path.read_bytes()
    for position in range(len(content)):
        changed = bytearray(content)
        # Alternately another letter or digit, and a letter of the other case.
        changed[position] ^= 0x01 if position % 2 else 0x20
        path.write_bytes(changed)
        with pytest.raises(CheckpointError) as raised:
            read_packed(path)
        assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_every_cut_is_noticed(path):
    content = path.read_bytes()
    for length in (*range(0, len(content), 7), len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"x\.safetensors is damaged or is not a packed"):
            read_packed(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(CheckpointError, match=r"x\.safetensors is damaged or is not a packed"):
        read_packed(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "nowhere.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"{path} does not exist"):
            read_packed(path)


@pytest.mark.parametrize("content", [b"", b"x" * 100, struct.pack("<Q", 2) + b"[]"])
def test_another_file_is_no_packed_file(tmp_path, content):
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"other\.safetensors is damaged or is not a packed"):
        read_packed(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_of_other_programs_are_no_packed_file(tmp_path, metadata):
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.ones(1)}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match="is a safetensors file but not a packed detector"):
        read_packed(path)


def test_another_format_version_is_refused(path, monkeypatch):
    monkeypatch.setattr(packed_file, "_VERSION", "2")
    with pytest.raises(CheckpointError, match="format version 1 and this library reads version 2"):
        read_packed(path)


@pytest.mark.parametrize(
    "change",
    [
        {"num_classes": "many"},
        {"class_names": "5"},
        {"class_names": "[" * 100_000},
        {"config": None},
    ],
    ids=["a word for a number", "a number for names", "nested deeply", "no config"],
)
def test_a_header_of_another_writer_is_refused(tmp_path, change):
    metadata = {
        "format": "distill-packed-detector",
        "format_version": "1",
        "library_version": "0.1.0",
        "config": "",
        "num_classes": "1",
        "class_names": "[]",
        **change,
    }
    metadata = {key: value for key, value in metadata.items() if value is not None}
    metadata["sha256"] = packed_file._checksum(metadata, {})
    path = tmp_path / "other.safetensors"
    save_file({}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match="was not written by this library"):
        read_packed(path)
