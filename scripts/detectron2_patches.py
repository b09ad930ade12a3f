"""What install_detectron2.py changes in the sdist of Detectron2 0.6, and how it packages it.

The sdist's Python files and configs are those of the official tag v0.6, from before NumPy 2,
Pillow 10 and torch 2, and it ships no C++ sources. Everything here is data; the script applies it.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "DEPENDENCIES",
    "NEW_FILES",
    "PROJECTS",
    "PYPROJECT",
    "RULES",
    "SETUP_STUB",
    "VERSION",
    "Rule",
]

VERSION = "0.6+pure.1"

DEPENDENCIES = (
    "torch>=2.3",
    "torchvision",
    "numpy",
    "Pillow>=7.1",
    "matplotlib",
    "pycocotools>=2.0.6",
    "termcolor>=1.1",
    "yacs>=0.1.8",
    "tabulate",
    "cloudpickle",
    "tqdm>4.29.0",
    "tensorboard",
    "fvcore>=0.1.5,<0.1.6",
    "iopath>=0.1.7",
    "omegaconf>=2.1",
    "hydra-core>=1.1",
    "packaging",
)


class Rule(NamedTuple):
    """A regular expression to replace (``re.M``), and how often it must match in all."""

    files: str  # a path or glob below the unpacked sdist
    pattern: str
    replacement: str
    matches: int


_IMPORT_C = r"^from detectron2 import _C$"
_GUARDED_C = """\
try:
    from detectron2 import _C
except ImportError:
    from detectron2.utils.no_extension import _C"""

RULES = (
    # The compiled extension is absent.
    Rule("detectron2/layers/deform_conv.py", _IMPORT_C, _GUARDED_C, 1),
    Rule("detectron2/layers/rotated_boxes.py", _IMPORT_C, _GUARDED_C, 1),
    Rule("detectron2/layers/roi_align_rotated.py", _IMPORT_C, _GUARDED_C, 1),
    Rule(
        "detectron2/evaluation/fast_eval_api.py",
        _IMPORT_C,
        "try:\n    from detectron2 import _C\nexcept ImportError:\n    _C = None",
        1,
    ),
    Rule(
        "detectron2/evaluation/fast_eval_api.py",
        r"\Z",
        "\n\nif _C is None:  # same results from pycocotools, only slower\n"
        "    COCOeval_opt = COCOeval\n",
        1,
    ),
    # caffe2 no longer ships with torch.
    Rule(
        "detectron2/export/__init__.py",
        r"^from \.api import \*$",
        "try:\n    from caffe2.proto import caffe2_pb2 as _tmp\n    import onnx as _tmp\n"
        "except ImportError:\n    pass\nelse:\n    from .api import *",
        1,
    ),
    # NumPy >= 1.24 has no np.bool and the like; NumPy >= 2 refuses copy=False where it must copy.
    Rule("detectron2/**/*.py", r"\bnp\.(bool|int|float|str)\b", r"\1", 19),
    Rule("detectron2/layers/mask_ops.py", r"np\.array\(mask, copy=False\)", "np.asarray(mask)", 1),
    # Pillow >= 10.
    Rule("detectron2/data/transforms/transform.py", r"\bImage\.LINEAR\b", "Image.BILINEAR", 1),
    # Python >= 3.11: random.sample() takes no set (reached when a mapper returns None).
    Rule(
        "detectron2/data/common.py",
        r"sample\(self\._fallback_candidates, k=1\)",
        "sample(list(self._fallback_candidates), k=1)",
        1,
    ),
    # torch >= 2.0: its schedulers are no longer _LRScheduler, so that hooks.LRScheduler would
    # neither save nor load their state, without a word.
    Rule("**/*.py", r"\blr_scheduler\._LRScheduler\b", "lr_scheduler.LRScheduler", 9),
    # torch >= 2.4: deprecated names.
    Rule(
        "detectron2/engine/train_loop.py",
        r"from torch\.cuda\.amp import GradScaler$(\s+)grad_scaler = GradScaler\(\)",
        r'from torch.amp import GradScaler\1grad_scaler = GradScaler("cuda")',
        1,
    ),
    Rule("detectron2/engine/train_loop.py", r"^ +from torch\.cuda\.amp import autocast\n", "", 1),
    Rule(
        "detectron2/engine/train_loop.py",
        r"with autocast\(\):",
        'with torch.autocast("cuda"):',
        1,
    ),
    # torch >= 1.10: torch.meshgrid asks for indexing=.
    Rule(
        "detectron2/modeling/anchor_generator.py",
        r"torch\.meshgrid\(shifts_y, shifts_x\)",
        'torch.meshgrid(shifts_y, shifts_x, indexing="ij")',
        1,
    ),
    Rule(
        "projects/Panoptic-DeepLab/panoptic_deeplab/post_processing.py",
        r"(torch\.meshgrid\((?:\s+torch\.arange\(.*\),){2})",
        r'\1\n        indexing="ij",',
        1,
    ),
    # torch.ByteStorage is deprecated.
    Rule(
        "detectron2/utils/comm.py",
        r"storage = torch\.ByteStorage\.from_buffer\(buffer\)\n"
        r"    tensor = torch\.ByteTensor\(storage\)\.to\(device=device\)",
        "tensor = torch.frombuffer(bytearray(buffer), dtype=torch.uint8).to(device=device)",
        1,
    ),
    # launch() without a GPU: gloo, as in later versions (it was an assertion).
    Rule(
        "detectron2/engine/launch.py",
        r"^    assert torch\.cuda\.is_available\(\), .*$",
        "    has_gpu = torch.cuda.is_available()",
        1,
    ),
    Rule(
        "detectron2/engine/launch.py",
        r'backend="NCCL"',
        'backend="NCCL" if has_gpu else "GLOO"',
        1,
    ),
    Rule(
        "detectron2/engine/launch.py",
        r"^    assert num_gpus_per_machine <= torch\.cuda\.device_count\(\)\n"
        r"    torch\.cuda\.set_device\(local_rank\)$",
        "    if has_gpu:\n"
        "        assert num_gpus_per_machine <= torch.cuda.device_count()\n"
        "        torch.cuda.set_device(local_rank)",
        1,
    ),
    # setuptools >= 82 has no pkg_resources.
    Rule("detectron2/model_zoo/model_zoo.py", r"^import pkg_resources\n", "", 1),
    Rule(
        "detectron2/model_zoo/model_zoo.py",
        r"pkg_resources\.resource_filename\(\s*\"detectron2\.model_zoo\","
        r" os\.path\.join\(\"configs\", config_path\)\s*\)",
        'os.path.join(os.path.dirname(os.path.abspath(__file__)), "configs", config_path)',
        1,
    ),
)

# `from detectron2 import _C` itself still fails, so that other packages can detect the absence.
NEW_FILES = {
    "detectron2/utils/no_extension.py": '''\
"""Stands in for detectron2._C in a build without the compiled extension."""


class _NoExtension:
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise ImportError(
            f"This detectron2 was installed without its compiled extension, which {name}() needs "
            "(rotated boxes and deformable convolutions)."
        )


_C = _NoExtension()
''',
}

# Package below detectron2.projects -> its folder in the sdist.
PROJECTS = {
    "point_rend": "projects/PointRend/point_rend",
    "deeplab": "projects/DeepLab/deeplab",
    "panoptic_deeplab": "projects/Panoptic-DeepLab/panoptic_deeplab",
}

PYPROJECT = f"""\
[build-system]
requires = ["setuptools>=77", "wheel"]
build-backend = "setuptools.build_meta"

[project]
name = "detectron2"
version = "{VERSION}"
description = "Detectron2 0.6 without its compiled extension"
authors = [{{name = "FAIR"}}]
urls = {{Homepage = "https://github.com/facebookresearch/detectron2"}}
requires-python = ">=3.8"
dependencies = {list(DEPENDENCIES)}

[project.optional-dependencies]
opencv = ["opencv-python-headless"]
all = ["opencv-python-headless", "shapely", "psutil", "black", "scipy"]

[tool.setuptools]
include-package-data = false

[tool.setuptools.packages.find]
include = ["detectron2*"]
namespaces = false

[tool.setuptools.package-data]
"detectron2.model_zoo" = ["configs/**/*.yaml", "configs/**/*.py"]
"""

# pip runs the sdist's setup.py for its metadata, and that imports torch: this stands in for it.
SETUP_STUB = {
    "torch/__init__.py": """\
import distutils.core

__version__ = "2.0"
_setup = distutils.core.setup


def setup(**keywords):
    keywords.pop("extras_require", None)  # recent pip refuses the URL in there
    return _setup(**keywords)


distutils.core.setup = setup


class version:
    hip = None


class cuda:
    is_available = staticmethod(lambda: False)
""",
    "torch/utils/__init__.py": "",
    "torch/utils/cpp_extension.py": """\
from setuptools import Extension
from setuptools.command.build_ext import build_ext as BuildExtension  # noqa: F401

CUDA_HOME = ROCM_HOME = None


def CppExtension(name, sources, **_):
    return Extension(name, sources)


CUDAExtension = CppExtension
""",
}
