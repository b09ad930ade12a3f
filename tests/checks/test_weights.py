from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from helpers import tiny

from distill.checks import check_weights

_KEYS = {"MODEL.WEIGHTS": "MODEL__WEIGHTS", "DISTILL.TEACHER.WEIGHTS": "DISTILL__TEACHER__WEIGHTS"}


def _cfg(key: str, weights: object) -> CfgNode:
    return tiny.rcnn_cfg(**{_KEYS[key]: str(weights), "DISTILL__METHODS": ("TADF",)})


@pytest.mark.parametrize("key", _KEYS)
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nowhere.pth", None, "no"),
        ("page.pth", b"<html>404</html>", "is a web page"),
        ("cut.pth", b"PK\x03\x04" + b"x" * 100, "is damaged"),
        ("cut.safetensors", b"\x08" + b"x" * 100, "is damaged"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused_with_its_key(
    tmp_path: Path, key: str, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=f"^{key}: .*{message}") as raised:
        check_weights(_cfg(key, tmp_path / name))
    assert name in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("key", _KEYS)
def test_a_zoo_model_that_does_not_exist_is_refused_with_its_key(key: str) -> None:
    check_weights(_cfg(key, "model_zoo://COCO-Detection/retinanet_R_50_FPN_1x.yaml"))
    with pytest.raises(FileNotFoundError, match=f'^{key}: .* has no "no.yaml"'):
        check_weights(_cfg(key, "model_zoo://no.yaml"))


@pytest.mark.parametrize("key", _KEYS)
def test_what_is_not_loaded_is_not_looked_at(tmp_path: Path, key: str) -> None:
    check_weights(_cfg(key, "nowhere.pth"), own=False, teacher=False)
    torch.save({"model": {}}, tmp_path / "x.pth")
    check_weights(_cfg(key, tmp_path / "x.pth"))
    check_weights(_cfg(key, "https://localhost/x.pth"))
