from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.tiny import batch, changed, distilled, equal
from safetensors import safe_open
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils._python_dispatch import TorchDispatchMode

from distill.deploy import PackedBinaryConv2d, export_packed, is_packed, load_packed
from distill.deploy.packed_file import PackedHeader, read_packed, write_packed
from distill.deploy.packed_layers import binary_layers
from distill.modeling.binary import BinaryConv2d
from distill.utils.checkpoint import CheckpointError


class _LiveWeights(TorchDispatchMode):
    """Notes the most bytes of float tensors in the shape of 1-bit weights at any one time."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.shapes = {x.quantized_weight().shape for x in binary_layers(model).values()}
        self.storages: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.shape in self.shapes:
            if result.is_floating_point():
                storage = result.untyped_storage()
                self.storages[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        live = {k: x for k, x in self.storages.items() if not x[0].expired()}
        self.storages = live
        self.peak = max(self.peak, sum(size for _, size in live.values()))
        return result


@pytest.fixture
def rewritten(exported, tmp_path: Path) -> Callable[..., Path]:
    """Writes the exported file anew, with another config or other tensors."""

    def rewrite(config=None, **tensors) -> Path:
        header, old = read_packed(exported.path)
        config = header.config if config is None else config
        tensors = {key.replace("__", "."): value for key, value in tensors.items()}
        new = {key: value for key, value in {**old, **tensors}.items() if value is not None}
        header = PackedHeader(config, header.num_classes, header.class_names, "9.9")
        write_packed(tmp_path / "new.safetensors", header, new)
        return tmp_path / "new.safetensors"

    return rewrite


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"MODEL__BINARY__NORM": "FrozenBN", "MODEL__BINARY__QUANTIZER": "learned"},
        {"MODEL__BINARY__NORM": "FrozenStatsBN", "MODEL__FPN__NORM": ""},
        {"MODEL__BINARY__NORM": "", "MODEL__BINARY__ACTIVATIONS": False},
        {"MODEL__BACKBONE__FREEZE_AT": 2},
    ],
)
def test_outputs_are_those_of_the_exported_detector(
    binary_cfg, trained, outputs, tmp_path, changes
):
    cfg = binary_cfg(**changes)
    model = trained(cfg)
    export_packed(model, cfg, tmp_path / "x.safetensors")
    expected = outputs(model, batch())
    packed = load_packed(tmp_path / "x.safetensors", device="cpu")
    unpacked = load_packed(tmp_path / "x.safetensors", unpack=True)
    assert type(packed) is type(model)
    assert equal(outputs(packed, batch()), expected)
    assert equal(outputs(unpacked, batch()), expected)
    kinds = [{type(x) for x in binary_layers(m).values()} for m in (packed, unpacked)]
    assert kinds == [{PackedBinaryConv2d}, {BinaryConv2d}]


def _float_weights(model: nn.Module) -> list[str]:
    """Names of floating tensors, hidden ones too, that are as large as a layer's weights."""
    return [
        f"{name}.{key}"
        for name, layer in binary_layers(model).items()
        for key, value in {**vars(layer), **layer._parameters, **layer._buffers}.items()
        if isinstance(value, torch.Tensor)
        and value.is_floating_point()
        and value.numel() >= layer.weight_shape.numel()
    ]


def test_a_packed_detector_never_holds_more_than_one_layer_of_float_weights(exported, outputs):
    model = load_packed(exported.path)
    layers = binary_layers(model).values()
    assert _float_weights(model) == []
    largest = max(4 * layer.weight_shape.numel() for layer in layers)
    with _LiveWeights(model) as weights:
        outputs(model, batch())
    # Unpacked, not retained: a retained one would add to the next.
    assert weights.peak == largest
    with _LiveWeights(model) as weights:
        model(batch())
    assert weights.peak == largest
    assert _float_weights(model) == []


def test_loading_never_holds_more_than_one_layer_of_float_weights(exported):
    held, alive = [], []

    def watch(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        if isinstance(module, BinaryConv2d) and name == "weight" and not parameter.is_meta:
            alive.append(sum(not reference.expired() for reference in held))
            held.append(StorageWeakRef(parameter.untyped_storage()))

    handle = register_module_parameter_registration_hook(watch)
    try:
        load_packed(exported.path)
    finally:
        handle.remove()
    assert len(alive) == len(binary_layers(exported.model))
    assert set(alive) == {0}


def test_what_is_left_to_train_is_real_and_packed_layers_refuse(exported):
    model = load_packed(exported.path)
    assert not model.training
    assert all(p.is_floating_point() for p in model.parameters())
    with pytest.raises(ValueError, match="A packed detector can't be trained"):
        model.train()(batch())


def test_an_unpacked_detector_trains(exported):
    model = load_packed(exported.path, unpack=True)
    layers = binary_layers(model).values()
    features = model.train().backbone(torch.randn(1, 3, 32, 32))
    sum(x.sum() for x in features.values()).backward()
    assert all(layer.weight.grad is not None for layer in layers if layer.bias is None)


def test_tensors_of_the_detector_do_not_depend_on_the_file(exported, outputs, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(exported.path.read_bytes())
    model = load_packed(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert equal(outputs(model, batch()), outputs(exported.model, batch()))


def test_a_given_config_sets_the_thresholds(exported):
    cfg = changed(exported.cfg, TEST__DETECTIONS_PER_IMAGE=2)
    model = load_packed(exported.path, cfg=distilled(cfg))
    with torch.no_grad():
        assert [len(x["instances"]) for x in model(batch())] == [2, 2]
        assert all(len(x["instances"]) > 2 for x in load_packed(exported.path)(batch()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MODEL__ROI_HEADS__NUM_CLASSES": 4}, "has 3 classes and the config 4: evaluate it with"),
        ({"DATASETS__TRAIN": ("tiny_cab",)}, "has classes of other names or another order than"),
        ({"MODEL__BINARY__ACTIVATIONS": False}, "has layers of another precision"),
        ({"MODEL__SLIM__BLOCKS": (2, 1, 1)}, "lacks tensors of the config's detector .*res2.1"),
        ({"MODEL__FPN__NORM": ""}, "has tensors that the config's detector lacks .*norm"),
        ({"MODEL__FPN__OUT_CHANNELS": 12}, "has tensors of another shape or type"),
    ],
)
def test_a_given_config_that_does_not_fit_is_refused(exported, changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        load_packed(exported.path, cfg=changed(exported.cfg, **changes))
    assert str(raised.value).startswith(str(exported.path))
    assert "\n" not in str(raised.value)


def test_classes_without_names_fit_by_their_number(exported):
    load_packed(exported.path, cfg=changed(exported.cfg, DATASETS__TRAIN=("tiny_unnamed",)))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"roi_heads__ghost": torch.ones(1)}, r"has tensors that .* lacks \(roi_heads\.ghost\)"),
        ({"proposal_generator__rpn_head__conv__conv__alphas": None}, "lacks tensors of"),
        (
            {"proposal_generator__rpn_head__conv__conv__alphas": torch.ones(8).double()},
            "has tensors of another shape or type",
        ),
    ],
)
def test_unknown_missing_and_reshaped_tensors_are_refused(rewritten, tensors, message):
    path = rewritten(**tensors)
    with pytest.raises(ValueError, match=message) as raised:
        load_packed(path)
    assert str(raised.value).startswith(str(path))


@pytest.mark.parametrize(
    "config",
    [
        "MODEL: {GHOST: 1}",
        "MODEL: {META_ARCHITECTURE: Ghost}",
        "MODEL: {MASK_ON: [1]}",
        "MODEL: {RESNETS: {DEPTH: 7}, BACKBONE: {NAME: build_binary_resnet_fpn_backbone}}",
        "_BASE_: other.yaml",
        "just words",
        "- a list",
        "MODEL: {",
    ],
)
def test_a_config_that_makes_no_detector_is_one_sentence(rewritten, config):
    path = rewritten(config)
    with pytest.raises(CheckpointError, match="does not make a detector here .* version 9.9"):
        load_packed(path)


def test_a_config_that_would_run_code_is_refused_unread(rewritten, tmp_path):
    trace = tmp_path / "trace"
    path = rewritten(f"OUTPUT_DIR: !!python/object/apply:os.mkdir ['{trace}']")
    with pytest.raises(CheckpointError, match=r"does not make a detector here"):
        load_packed(path)
    assert not trace.exists()


def test_the_file_is_ordinary_safetensors_of_bits_and_floats(exported):
    with safe_open(exported.path, framework="np") as file:
        kinds = {name: file.get_tensor(name).dtype.name for name in file.keys()}
    assert set(kinds.values()) == {"uint8", "float32"}
    assert sum(name.endswith(".packed_weight") for name in kinds) == 10
    assert not any(name.endswith(("anchors", "pixel_mean")) for name in kinds)


def test_packed_files_are_told_by_their_name():
    assert is_packed("x/y.safetensors")
    assert not is_packed("model_final.pth") and not is_packed("")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL__ROI_BOX_HEAD__FC_DIM", 10**8),
        ("MODEL__SLIM__STAGE_CHANNELS", (6, 8, 10**6)),
        ("MODEL__ROI_BOX_HEAD__NUM_FC", 10**7),
        ("MODEL__FPN__OUT_CHANNELS", -1),
        ("MODEL__ANCHOR_GENERATOR__SIZES", []),
    ],
)
def test_a_config_that_asks_for_more_than_the_file_holds_is_refused(
    exported, rewritten, key, value
):
    """Before any of it is made: the first would take 400 GB."""
    path = rewritten(config=changed(exported.cfg, **{key: value}).dump())
    with _Largest() as largest, pytest.raises(ValueError, match=str(path)) as raised:
        load_packed(path)
    assert "\n" not in str(raised.value)
    assert largest.bytes < 1e6


class _Largest(TorchDispatchMode):
    """Notes the largest tensor that takes memory."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and not result.is_meta:
            self.bytes = max(self.bytes, result.untyped_storage().nbytes())
        return result
