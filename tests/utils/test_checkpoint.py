from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from safetensors.torch import save_file
from torch import nn

from distill.utils.checkpoint import CheckpointError, SafeCheckpointer


class _Bomb:
    """Pickles to a call that would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class _State:
    def __init__(self, state: dict) -> None:
        self.state = state

    def state_dict(self) -> dict:
        return self.state

    def load_state_dict(self, state: dict) -> None:
        self.state = state


@pytest.fixture
def model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def _same(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_what_is_saved_is_loaded_again_by_this_and_by_detectron2(model, tmp_path):
    extra = _State({"lr": 0.5, "steps": [1, 2]})
    SafeCheckpointer(model, str(tmp_path), extra=extra).save("a", iteration=7)
    path = str(tmp_path / "a.pth")
    for checkpointer_class in (SafeCheckpointer, DetectionCheckpointer):
        other, state = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), _State({})
        left = checkpointer_class(other, extra=state).load(path)
        assert _same(other.state_dict(), model.state_dict())
        assert state.state == extra.state
        assert left["iteration"] == 7
    assert (tmp_path / "last_checkpoint").read_text() == "a.pth"


def test_numpy_values_become_plain_ones(model, tmp_path):
    extra = _State({"best": np.float64(0.5), "order": np.arange(3), 4: (np.int64(2),)})
    SafeCheckpointer(model, str(tmp_path), extra=extra).save("a")
    data = torch.load(tmp_path / "a.pth", weights_only=True)["extra"]
    assert type(data["best"]) is float and data["best"] == 0.5
    assert data["order"].tolist() == [0, 1, 2]
    assert data[4] == (2,)


def test_an_object_that_could_not_be_loaded_is_not_saved(model, tmp_path):
    extra = _State({"inner": {"what": object()}})
    with pytest.raises(TypeError, match=r"a\.extra\.inner\.what holds a object"):
        SafeCheckpointer(model, str(tmp_path), extra=extra).save("a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["bomb.pth", "bomb.pkl", "bomb.pyth", "legacy.pth"])
def test_a_pickle_that_runs_code_is_refused_unread(model, tmp_path, name):
    trace = tmp_path / "trace"
    data = {"model": {"0.weight": _Bomb(trace)}, "__author__": "x"}
    if name == "bomb.pkl":
        (tmp_path / name).write_bytes(pickle.dumps(data))
    else:
        torch.save(data, tmp_path / name, _use_new_zipfile_serialization=name != "legacy.pth")
    with pytest.raises(CheckpointError, match=rf"{name} was refused.*\.mkdir"):
        SafeCheckpointer(model).load(str(tmp_path / name))
    assert not trace.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_weights_of_the_model_zoo_load(model, tmp_path, protocol):
    weights = OrderedDict((k, np.asarray(v.numpy() + 1)) for k, v in model.state_dict().items())
    data = {"model": weights, "__author__": "zoo", "scale": np.float32(1)}
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps(data, protocol=protocol))
    expected = {k: v + 1 for k, v in model.state_dict().items()}
    SafeCheckpointer(model).load(str(tmp_path / "zoo.pkl"))
    assert _same(model.state_dict(), expected)


def test_a_file_that_loads_nothing_but_numbers_is_refused(model, tmp_path):
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1]))
    with pytest.raises(CheckpointError, match="list.pkl is damaged or is not a checkpoint"):
        SafeCheckpointer(model).load(str(tmp_path / "list.pkl"))


@pytest.mark.parametrize("suffix", ["pth", "pkl"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.97])
def test_a_truncated_file_is_one_sentence(model, tmp_path, suffix, kept):
    path = tmp_path / f"cut.{suffix}"
    weights = {k: v.numpy() for k, v in model.state_dict().items()}
    if suffix == "pkl":
        path.write_bytes(pickle.dumps({"model": weights, "__author__": "x"}))
    else:
        torch.save({"model": model.state_dict()}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(CheckpointError) as raised:
        SafeCheckpointer(model).load(str(path))
    assert str(raised.value).startswith(f"{path} is damaged")
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named_and_the_next_load_works(model, tmp_path):
    checkpointer = SafeCheckpointer(model, str(tmp_path))
    with pytest.raises(FileNotFoundError, match="nowhere.pth does not exist"):
        checkpointer.load(str(tmp_path / "nowhere.pth"))
    (tmp_path / "bad.pth").write_bytes(b"x")
    with pytest.raises(CheckpointError):
        checkpointer.load(str(tmp_path / "bad.pth"))
    checkpointer.save("good")
    checkpointer.load(str(tmp_path / "good.pth"))
    assert not checkpointer.incompatible.missing_keys


def test_a_packed_student_is_not_trained_on(model, tmp_path):
    path = tmp_path / "student.safetensors"
    save_file({"0.bias": torch.ones(3)}, path, metadata={"format": "distill-packed-detector"})
    with pytest.raises(CheckpointError, match=r"student\.safetensors is a packed student.*--eval"):
        SafeCheckpointer(model).load(str(path))


def test_what_does_not_match_is_recorded(model, tmp_path):
    weights = model.state_dict()
    del weights["0.bias"]
    weights["1.weight"] = torch.ones(4)
    weights["extra"] = weights["distill.adapter"] = torch.ones(1)
    torch.save({"model": weights}, tmp_path / "a.pth")
    checkpointer = SafeCheckpointer(model)
    assert checkpointer.incompatible is None
    checkpointer.load(str(tmp_path / "a.pth"))
    found = checkpointer.incompatible
    assert set(found.missing_keys) == {"0.bias", "1.weight"}
    assert found.unexpected_keys == ["extra"]
    assert found.incorrect_shapes == [("1.weight", (4,), (3,))]


_WRITE_WITH_A_FULL_DISK = """
import resource, sys
from torch import nn
from distill.utils.checkpoint import SafeCheckpointer
folder = sys.argv[1]
SafeCheckpointer(nn.Linear(8, 8), folder).save("old")
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for name in ("new", "old"):
    try:
        SafeCheckpointer(nn.Linear(512, 512), folder).save(name)
    except OSError as error:
        print(error)
"""


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path):
    command = [sys.executable, "-c", _WRITE_WITH_A_FULL_DISK, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for name, line in zip(("new", "old"), done.stdout.splitlines(), strict=True):
        assert line.startswith(f"{tmp_path / name}.pth could not be written (")
        assert line.endswith("continue with --resume.")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last_checkpoint", "old.pth"]
    linear = nn.Linear(8, 8)
    checkpointer = SafeCheckpointer(linear, str(tmp_path))
    checkpointer.resume_or_load("", resume=True)
    assert not checkpointer.incompatible.missing_keys


def test_a_checkpointer_that_does_not_write_leaves_no_file(model, tmp_path):
    SafeCheckpointer(model, str(tmp_path), save_to_disk=False).save("a")
    assert not list(tmp_path.iterdir())
