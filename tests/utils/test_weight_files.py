from __future__ import annotations

import io
import pickle
import random
import re
import resource
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from distill.utils import weight_files
from distill.utils.checkpoint import CheckpointError, SafeCheckpointer
from distill.utils.weight_files import is_packed_file, read_weight_file


def _model() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def _saved(path: Path) -> dict[str, Any]:
    data = {"model": dict(_model().state_dict()), "trainer": {"rates": [0.5, 0.25]}, "iteration": 7}
    torch.save(data, path)
    return data


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_equal(left[k], right[k]) for k in left)
    return torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right


def _refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as raised:
        read_weight_file(str(path))
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value) and "weights_only" not in str(raised.value)
    return str(raised.value)


def test_a_flipped_bit_is_noticed_or_changes_nothing(tmp_path):
    path = tmp_path / "x.pth"
    data = _saved(path)
    content = path.read_bytes()
    drawn = random.Random(0)
    # A few hundred of all; the mark of a folder is where torch itself would read other memory.
    bits = [(drawn.randrange(len(content)), drawn.randrange(8)) for _ in range(300)]
    entries = [found.start() for found in re.finditer(rb"PK\x01\x02", content)]
    noticed = 0
    for position, bit in bits + [(entry + 38, 4) for entry in entries]:
        changed = bytearray(content)
        changed[position] ^= 1 << bit
        path.write_bytes(changed)
        try:
            assert _equal(data, read_weight_file(str(path))), (position, bit)
        except CheckpointError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            noticed += 1
    assert noticed > 150


@pytest.mark.parametrize("suffix", ["pth", "pkl", "safetensors"])
def test_every_cut_is_one_sentence(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    weights = _model().state_dict()
    if suffix == "pth":
        torch.save({"model": weights}, path)
    elif suffix == "pkl":
        arrays = {key: value.numpy() for key, value in weights.items()}
        path.write_bytes(pickle.dumps({"model": arrays}))
    else:
        save_file(weights, path)
    content = path.read_bytes()
    for length in (*range(0, len(content), 41), len(content) - 1):
        path.write_bytes(content[:length])
        assert "is damaged or is not a checkpoint" in _refusal(path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "a Git LFS point"),
        (b"\n<!DOCTYPE html><html>404</html>", "a web page"),
        (b'{"model": {}}', "JSON"),
        (b"", "it is empty"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "is not a checkpoint"),
        (b"hello", "is not a checkpoint"),
    ],
)
@pytest.mark.parametrize("name", ["x.pth", "x.pkl"])
def test_what_is_no_checkpoint_is_called_what_it_is(tmp_path, name, content, what):
    (tmp_path / name).write_bytes(content)
    assert what in _refusal(tmp_path / name)


def test_zip_archives_of_others_are_no_checkpoint(tmp_path):
    np.savez(tmp_path / "arrays.npz", a=np.ones(2))
    assert "a zip archive without a checkpoint" in _refusal(tmp_path / "arrays.npz")
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "program.pth"))
    assert "a TorchScript program" in _refusal(tmp_path / "program.pth")
    _saved(tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "x.pth") as old:
        with zipfile.ZipFile(tmp_path / "y.pth", "w", zipfile.ZIP_DEFLATED) as new:
            for name in old.namelist():
                new.writestr(name, old.read(name))
    assert "it is compressed" in _refusal(tmp_path / "y.pth")


def test_an_archive_without_checksums_is_read(tmp_path):
    """As torch.serialization.set_crc32_options(False) leaves it."""
    data = _saved(tmp_path / "x.pth")
    content = bytearray((tmp_path / "x.pth").read_bytes())
    for entry in [found.start() for found in re.finditer(rb"PK\x01\x02", content)]:
        content[entry + 16 : entry + 20] = bytes(4)
    (tmp_path / "x.pth").write_bytes(content)
    assert _equal(data, read_weight_file(str(tmp_path / "x.pth")))


def test_numpy_values_beside_or_instead_of_tensors_are_read(tmp_path):
    arrays = {key: value.numpy() for key, value in _model().state_dict().items()}
    extra = {"ap": np.float64(0.3), "best": np.int64(4), "names": np.array(["a", "bc"])}
    torch.save({"model": arrays, **extra}, tmp_path / "x.pth")
    data = read_weight_file(str(tmp_path / "x.pth"))
    assert data["ap"] == 0.3 and data["best"] == 4 and data["names"].tolist() == ["a", "bc"]
    assert all(np.array_equal(data["model"][key], arrays[key]) for key in arrays)
    model = _model()
    nn.init.zeros_(model[0].weight)
    SafeCheckpointer(model).load(str(tmp_path / "x.pth"))
    assert _equal(model.state_dict(), _model().state_dict())


def test_the_content_counts_and_not_the_suffix(tmp_path):
    weights = _model().state_dict()
    arrays = {key: value.numpy() for key, value in weights.items()}
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps({"model": arrays}))
    torch.save({"model": weights}, tmp_path / "torch.pkl")
    torch.save({"model": weights}, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file(weights, tmp_path / "plain.safetensors")
    (tmp_path / "renamed.pth").write_bytes((tmp_path / "plain.safetensors").read_bytes())
    for path in tmp_path.iterdir():
        model = _model()
        nn.init.zeros_(model[0].weight)
        SafeCheckpointer(model).load(str(path))
        assert _equal(model.state_dict(), weights), path


def test_a_packed_students_file_is_known_by_its_header(tmp_path):
    for name, header in (
        ("a", None),
        ("b", {"format": "pt"}),
        ("c", {"format": "distill-packed-detector"}),
        # Damaged, but no plain weights all the same.
        ("d", {"format": "0", "format_version": "1", "sha256": "0"}),
    ):
        save_file({"x": torch.ones(1)}, tmp_path / f"{name}.safetensors", metadata=header)
        assert is_packed_file(str(tmp_path / f"{name}.safetensors")) == (name in "cd")


class _Call:
    """Pickles to a call of a harmless function with made-up arguments."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced


_EMPTY = np.zeros(0, np.int8).__reduce__()
_HUGE = 10**11


@pytest.mark.parametrize(
    "value",
    [
        _Call(_EMPTY[0], (np.ndarray, (_HUGE,), b"d"), (1, (_HUGE,), np.dtype("f8"), False, b"")),
        _Call(np.ndarray, ((_HUGE,),)),
        _Call(bytearray, (_HUGE,)),
        _Call(np.float64(1).__reduce__()[0], (np.dtype(f"V{10**9}"), b"")),
        _Call(_EMPTY[0], (np.ndarray, (0,), b"b"), (1, (2,), np.dtype("O"), False, [1, 2])),
    ],
    ids=["array", "new array", "bytearray", "scalar", "objects"],
)
@pytest.mark.parametrize("name", ["x.pth", "x.pkl"])
def test_a_size_that_is_made_up_is_not_believed(tmp_path, name, value):
    data = {"model": {"0.weight": value}}
    if name == "x.pkl":
        (tmp_path / name).write_bytes(pickle.dumps(data))
    else:
        torch.save(data, tmp_path / name)
    _refusal(tmp_path / name)


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path):
    tensor = torch.ones(3)
    torch.save({"model": {"a": tensor}}, tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "x.pth") as old:
        parts = {name: old.read(name) for name in old.namelist()}
    # The size is K\x03 twice: of the storage and of the tensor.
    pickled = parts["x/data.pkl"]
    assert pickled.count(b"K\x03") == 2
    for place in (pickled.index(b"K\x03"), pickled.rindex(b"K\x03")):
        huge = pickled[:place] + b"J" + struct.pack("<i", 2**30) + pickled[place + 2 :]
        with zipfile.ZipFile(tmp_path / "y.pth", "w") as new:
            for name, content in {**parts, "x/data.pkl": huge}.items():
                new.writestr(name, content)
        assert "a tensor's size does not fit its content" in _refusal(tmp_path / "y.pth")


def test_a_place_in_memory_that_is_made_up_is_not_made(tmp_path):
    # LONG_BINPUT to place 4,000,000,000: C's unpickler would make that many places.
    (tmp_path / "x.pkl").write_bytes(b"\x80\x02}r" + struct.pack("<I", 4 * 10**9) + b".")
    assert read_weight_file(str(tmp_path / "x.pkl")) == {}


def test_bytes_that_are_not_there_take_no_memory(tmp_path):
    # BYTEARRAY8 of 64 GB: the standard library would fill them with zeros.
    (tmp_path / "x.pkl").write_bytes(b"\x80\x05\x96" + struct.pack("<Q", 64 * 10**9) + b"abc.")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _refusal(tmp_path / "x.pkl")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1e6


def test_what_a_damaged_file_says_is_printable_and_short(tmp_path):
    for content in (b"c\x01\x02os\nsys\x1btem\n.", b"F" + b"\x07" * 900 + b"\n."):
        (tmp_path / "x.pkl").write_bytes(content)
        said = _refusal(tmp_path / "x.pkl")
        assert said.isprintable() and len(said) < 400


@pytest.mark.parametrize("name", ["x.pth", "x.pkl"])
def test_deeply_nested_values_are_read_or_refused(tmp_path, name):
    depth = 100_000
    content = b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."
    if name == "x.pth":
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("x/data.pkl", content)
            archive.writestr("x/version", "3")
    else:
        (tmp_path / name).write_bytes(content)
    assert "it holds a list" in _refusal(tmp_path / name)


def test_a_harmless_function_can_not_be_changed(tmp_path):
    """Else a file could switch the checks of sizes off."""
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, protocol=2)
    pickler.dump(np.ndarray)
    build = stream.getvalue()[:-1] + b"N}X\x01\x00\x00\x00xK\x01s\x86b."
    (tmp_path / "x.pkl").write_bytes(build)
    assert "it changes a type" in _refusal(tmp_path / "x.pkl")


def test_attributes_of_a_state_dict_survive(tmp_path):
    state = _model().state_dict()
    assert isinstance(state, OrderedDict) and state._metadata
    torch.save({"model": state}, tmp_path / "x.pth")
    assert read_weight_file(str(tmp_path / "x.pth"))["model"]._metadata == state._metadata


def test_no_advice_of_torch_comes_through(tmp_path, monkeypatch):
    _saved(tmp_path / "x.pth")

    def load(*args: Any, **kwargs: Any) -> None:
        raise pickle.UnpicklingError("Weights only load failed; set weights_only=False")

    monkeypatch.setattr(weight_files.torch, "load", load)
    assert "it is not what torch.save writes by default" in _refusal(tmp_path / "x.pth")
