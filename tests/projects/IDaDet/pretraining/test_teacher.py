from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
import yaml
from detectron2.config import CfgNode
from helpers.tiny import changed
from pretraining.classifier import BackboneClassifier
from pretraining.teacher import SoftLabelTeacher
from torchvision.transforms import v2


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, 32, 32)).float()


@pytest.fixture
def twin(make_config, tmp_path) -> CfgNode:
    """The config of a student under its real-valued twin."""
    cfg = make_config(MODEL__BINARY__WEIGHTS=False, MODEL__BINARY__ACTIVATIONS=False)
    (tmp_path / "twin.yaml").write_text(cfg.dump())
    torch.save({"model": BackboneClassifier(cfg).state_dict()}, tmp_path / "twin.pth")
    return make_config(
        PRETRAIN__TEACHER__CONFIG_FILE=str(tmp_path / "twin.yaml"),
        PRETRAIN__TEACHER__WEIGHTS=str(tmp_path / "twin.pth"),
    )


def _save_network(folder: Path, num_classes: int = 3) -> tuple[torch.nn.Module, str]:
    network = torchvision.models.get_model("squeezenet1_1", num_classes=num_classes)
    torch.save(network.state_dict(), folder / "network.pth")
    return network.eval(), str(folder / "network.pth")


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_a_network_of_torchvision_sees_normalized_rgb(make_config, tmp_path, images, channels):
    network, weights = _save_network(tmp_path)
    cfg = make_config(
        PRETRAIN__TEACHER__NAME="squeezenet1_1",
        PRETRAIN__TEACHER__WEIGHTS=weights,
        INPUT__FORMAT=channels,
    )
    rgb = images if channels == "RGB" else images.flip(1)
    normalize = v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = network(normalize(rgb / 255))
    logits = SoftLabelTeacher.from_config(cfg).logits(images)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert not logits.requires_grad


def test_a_backbone_that_was_pretrained_here_teaches_in_its_own_order_of_channels(
    twin, tmp_path, images
):
    teacher = SoftLabelTeacher.from_config(twin)
    torch.testing.assert_close(teacher.logits(images), teacher.model.logits(images))
    assert not any(conv.binarize_weights for conv in _binary_convs(teacher.model))
    rgb = SoftLabelTeacher.from_config(changed(twin, INPUT__FORMAT="RGB"))
    torch.testing.assert_close(rgb.logits(images.flip(1)), teacher.logits(images))


def _binary_convs(model: torch.nn.Module) -> list[torch.nn.Module]:
    found = [m for m in model.modules() if hasattr(m, "binarize_weights")]
    assert found
    return found


def test_a_student_whose_teacher_has_a_teacher_leaves_that_one_alone(twin, tmp_path):
    cfg = yaml.safe_load((tmp_path / "twin.yaml").read_text())
    cfg["PRETRAIN"]["TEACHER"]["NAME"] = "no such network"
    (tmp_path / "twin.yaml").write_text(yaml.safe_dump(cfg))
    assert SoftLabelTeacher.from_config(twin).model.teacher is None


def test_without_a_reference_there_is_no_teacher(make_config):
    assert SoftLabelTeacher.from_config(make_config()) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"NAME": "resnet43"}, "NAME 'resnet43' is no classification model .* resnet34"),
        ({"NAME": "fasterrcnn_resnet50_fpn"}, "no classification model"),
        ({"NAME": "squeezenet1_1"}, "WEIGHTS is empty"),
        ({"NAME": "squeezenet1_1", "WEIGHTS": "no.pth"}, "WEIGHTS no.pth does not exist"),
        ({"NAME": "squeezenet1_1", "CONFIG_FILE": "a.yaml"}, "both a NAME and a CONFIG_FILE"),
        ({"CONFIG_FILE": "a.yaml"}, "CONFIG_FILE a.yaml does not exist"),
    ],
)
def test_a_wrong_reference_is_refused(make_config, changes, message):
    changes = {f"PRETRAIN__TEACHER__{key}": value for key, value in changes.items()}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        SoftLabelTeacher.from_config(make_config(**changes))


def test_weights_that_do_not_fit_the_teacher_are_refused(make_config, twin, tmp_path):
    _, weights = _save_network(tmp_path, num_classes=5)
    changes = {"PRETRAIN__TEACHER__NAME": "squeezenet1_1", "PRETRAIN__TEACHER__WEIGHTS": weights}
    with pytest.raises(ValueError, match=r"does not fit the teacher .*classifier.1.weight"):
        SoftLabelTeacher.from_config(make_config(**changes))
    with pytest.raises(ValueError, match=r"does not fit the teacher .*backbone.bottom_up"):
        SoftLabelTeacher.from_config(changed(twin, PRETRAIN__TEACHER__WEIGHTS=weights))


def test_the_weights_of_a_deeper_teacher_are_refused(twin, tmp_path):
    deeper = yaml.safe_load((tmp_path / "twin.yaml").read_text())
    deeper["MODEL"]["SLIM"]["BLOCKS"] = [1, 1, 2]
    (tmp_path / "deeper.yaml").write_text(yaml.safe_dump(deeper))
    cfg = changed(twin, PRETRAIN__TEACHER__CONFIG_FILE=str(tmp_path / "deeper.yaml"))
    with pytest.raises(ValueError, match="does not fit the teacher .*res4.1"):
        SoftLabelTeacher.from_config(cfg)
    model = SoftLabelTeacher.from_config(
        changed(cfg, PRETRAIN__TEACHER__WEIGHTS="", PRETRAIN__TEACHER__ALLOW_RANDOM=True)
    ).model
    torch.save({"model": model.state_dict()}, tmp_path / "twin.pth")
    with pytest.raises(ValueError, match="does not fit the teacher .*res4.1"):
        SoftLabelTeacher.from_config(twin)


def test_a_teacher_of_other_classes_is_refused(twin):
    with pytest.raises(ValueError, match="The teacher has 3 classes and the student 4"):
        SoftLabelTeacher.from_config(changed(twin, PRETRAIN__NUM_CLASSES=4))


def test_a_config_with_an_unknown_key_is_refused(twin, tmp_path):
    (tmp_path / "twin.yaml").write_text("VERSION: 2\nMODEL: {BINRAY: 1}\n")
    with pytest.raises(
        ValueError, match='twin.yaml: there is no key MODEL.BINRAY; did you mean "MODEL.BINARY"'
    ):
        SoftLabelTeacher.from_config(twin)


def test_a_random_teacher_has_to_be_allowed(make_config, caplog):
    changes = {"PRETRAIN__TEACHER__NAME": "squeezenet1_1", "PRETRAIN__TEACHER__ALLOW_RANDOM": True}
    teacher = SoftLabelTeacher.from_config(make_config(**changes))
    assert teacher.logits(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    assert "RANDOM" in caplog.text
