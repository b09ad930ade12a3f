from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from distill.utils.checkpoint import CheckpointError, SafeCheckpointer


@pytest.fixture
def model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def _load(data: dict, path: str, model: nn.Module) -> SafeCheckpointer:
    torch.save(data, path)
    checkpointer = SafeCheckpointer(model)
    checkpointer.load(path)
    return checkpointer


@pytest.mark.parametrize("place", ["model", "state_dict", "model_state_dict", None])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_load_from_where_trainers_keep_them(model, tmp_path, place, prefix):
    weights = {f"{prefix}{key}": value.half() for key, value in model.state_dict().items()}
    data = {place: weights, "meta": {"epoch": 3}, "optimizer": {}} if place else weights
    nn.init.zeros_(model[0].weight)
    checkpointer = _load(data, str(tmp_path / "x.pth"), model)
    assert model[0].weight.abs().sum() > 0
    found = checkpointer.incompatible
    assert found.missing_keys == found.unexpected_keys == found.incorrect_shapes == []


def test_a_pickle_without_an_author_holds_its_weights_under_model(model, tmp_path):
    arrays = {key: value.numpy() + 1 for key, value in model.state_dict().items()}
    arrays["0.bias"] = arrays["0.bias"].astype(">f4")
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"model": arrays}))
    expected = model[0].bias.detach() + 1
    SafeCheckpointer(model).load(str(tmp_path / "x.pkl"))
    assert torch.equal(model[0].bias, expected)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ({"epoch": 3, "net": {"0.weight": torch.ones(3, 2)}}, "has no weights under model, state_"),
        ({}, r"has no weights under .*holds nothing"),
        ({"model": {"0.weight": [1.0]}, "a": 1}, "has no weights under"),
        ({"model": {"0.weight": torch.ones(3, 2), "cfg": "x"}}, "holds a str as the weight cfg"),
        ({"model": {"0.weight": torch.ones(3, 2), 4: torch.ones(1)}}, "as the weight 4"),
        ({"model": {"0.weight": torch.ones(3, 2, dtype=torch.int8)}}, "holds 0.weight as int8"),
        ({"model": {"0.weight": torch.ones(3, 2).to_sparse()}}, "in place of ordinary fractions"),
        ({"model": {"0.weight": torch.ones(3, 2, dtype=torch.cfloat)}}, "as complex64"),
        ({"model": {"0.weight": torch.full((3, 2), torch.nan)}}, "infinite values or NaN in 0.wei"),
        ({"model": {"module.0.bias": torch.full((3,), torch.inf)}}, "infinite values or NaN"),
    ],
)
def test_what_are_no_weights_is_refused_with_file_and_entry(model, tmp_path, data, what):
    path = str(tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=what) as raised:
        _load(data, path, model)
    assert str(raised.value).startswith(path) and "\n" not in str(raised.value)


def test_large_sums_of_half_precision_are_finite_weights(model, tmp_path):
    weights = {"0.weight": torch.full((3, 2), 60000.0, dtype=torch.float16)}
    _load({"model": weights}, str(tmp_path / "x.pth"), model)
    assert model[0].weight.eq(60000).all()


def test_names_are_matched_on_request_behind_a_path(model, tmp_path):
    weights = {"weight": np.ones((3, 2), np.float32)}
    torch.save({"model": {"weight": torch.ones(3, 2)}}, tmp_path / "x.pth")
    inner = nn.ModuleDict({"layer": nn.Linear(2, 3)})
    SafeCheckpointer(inner).load(f"{tmp_path / 'x.pth'}?matching_heuristics=True")
    assert inner["layer"].weight.eq(1).all() and len(weights) == 1
    with pytest.raises(FileNotFoundError, match=r"x\.pth\?other=1 does not exist"):
        SafeCheckpointer(inner).load(f"{tmp_path / 'x.pth'}?other=1")
    # Both layers' weights end like the file's.
    with pytest.raises(CheckpointError, match=r"The names in .*x\.pth can't be matched"):
        twice = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.Linear(2, 3)})
        SafeCheckpointer(twice).load(f"{tmp_path / 'x.pth'}?matching_heuristics=True")


def test_a_folder_and_an_unknown_zoo_model_are_named(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="is a folder: name a file in it"):
        SafeCheckpointer(model).load(str(tmp_path))
    with pytest.raises(FileNotFoundError, match='MODEL.WEIGHTS: .* has no "no/such.yaml"'):
        SafeCheckpointer(model).load("model_zoo://no/such.yaml")
