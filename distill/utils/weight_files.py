"""Files of weights, told apart by their content and read without running code."""

from __future__ import annotations

import contextlib
import pickle
import re
import zipfile
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from distill.utils.files import first_line
from distill.utils.safe_pickle import NUMPY_GLOBALS, ArrayUnpickler, RefusedGlobal
from distill.utils.torch_archive import check_archive

__all__ = [
    "PACKED_FORMAT",
    "SAFETENSORS",
    "CheckpointError",
    "is_packed_file",
    "look_at_weight_file",
    "read_weight_file",
]

SAFETENSORS = ".safetensors"
# In the header of a packed student; see distill.deploy.packed_file.
PACKED_FORMAT = "distill-packed-detector"

_ZIP, _LEGACY = b"PK\x03\x04", pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
# Of what a damaged file says of itself.
_MOST_SIGNS = 100


class CheckpointError(ValueError):
    """A checkpoint that can't be read or must not be."""


def look_at_weight_file(path: str) -> None:
    """Refuses at once, without reading it whole, what is no file of weights.

    Args:
        path: a local file.

    Raises:
        CheckpointError: one sentence that names the file.
    """
    start = _start(path)
    if _is_safetensors(path, start):
        _open_safetensors(path, tensors=False)
    elif start.startswith(_ZIP):
        try:
            zipfile.ZipFile(path).close()
        except zipfile.BadZipFile as error:
            raise CheckpointError(_damaged(path, first_line(error))) from error


def read_weight_file(path: str) -> dict[str, Any]:
    """Reads what torch.save, pickle or safetensors wrote, whatever the file's name says.

    Args:
        path: a local file.

    Returns:
        Its dict, as it is; tensors are on the CPU. Of safetensors, the tensors under "model".

    Raises:
        CheckpointError: one sentence that names the file, if it is damaged, is no such file, or
            would run code.
    """
    start = _start(path)
    if _is_safetensors(path, start):
        return {"model": _plain_safetensors(path)}
    try:
        data = _read_pickled(path, start)
    except RefusedGlobal as error:
        raise CheckpointError(_refusal(path, str(error))) from error
    except zipfile.BadZipFile as error:
        raise CheckpointError(_damaged(path, _zip_reason(error))) from error
    except Exception as error:  # pickle and torch raise almost anything on damaged input
        # What torch says of an unsafe file is how to switch its own check off.
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused is not None:
            raise CheckpointError(_refusal(path, refused[1])) from None
        reason = first_line(error)
        if "eights" in reason and "only" in reason:
            reason = "it is not what torch.save writes by default"
        raise CheckpointError(_damaged(path, reason)) from None
    if not isinstance(data, dict):
        raise CheckpointError(_damaged(path, f"it holds a {type(data).__name__}"))
    return data


def _start(path: str) -> bytes:
    """The first bytes of a file, unless they are of what is often found in the place of weights."""
    with open(path, "rb") as stream:
        start = stream.read(512)
    text = start.lstrip().lower()
    if not start:
        raise CheckpointError(_damaged(path, "it is empty"))
    if text.startswith(b"version https://git-lfs"):
        what = "is a Git LFS pointer in place of the weights: fetch them with `git lfs pull`."
    elif text.startswith((b"<!doctype", b"<html", b"<?xml")):
        what = "is a web page and not weights: download the file that the page links to."
    elif text.startswith((b'{"', b"{\n", b"[\n")):
        what = "is JSON and not weights: give the checkpoint itself."
    else:
        return start
    raise CheckpointError(f"{path} {what}")


def _read_pickled(path: str, start: bytes) -> Any:
    if start.startswith(_ZIP):
        has_numpy = check_archive(path)
    elif start.startswith(_LEGACY):
        has_numpy = False
    else:
        with open(path, "rb") as stream:
            return ArrayUnpickler(stream, encoding="latin1").load()
    with _numpy_allowed() if has_numpy else contextlib.nullcontext():
        return torch.load(path, map_location="cpu", weights_only=True)


def _numpy_allowed() -> contextlib.AbstractContextManager:
    """Lets torch read NumPy's arrays and numbers by functions that believe no size."""
    # Releases before 2.5 can't be told.
    allow = getattr(torch.serialization, "safe_globals", None)
    if allow is None:
        return contextlib.nullcontext()
    kinds = {type(np.dtype(code)) for code in "?bBhHiIlLqQefdgFDGSU"}
    return allow([*((value, name) for name, value in NUMPY_GLOBALS.items()), *kinds])


def is_packed_file(path: str) -> bool:
    """Whether a file is a packed student: of safetensors, whose header says so.

    Raises:
        CheckpointError: if it is damaged or is what is no file of weights.
    """
    if not _is_safetensors(path, _start(path)):
        return False
    return _is_of_packed(_open_safetensors(path, tensors=False)[0])


def _is_of_packed(header: dict[str, str]) -> bool:
    # One whose format is damaged is told by its other keys, and not taken for plain weights.
    return header.get("format") == PACKED_FORMAT or {"format_version", "sha256"} <= header.keys()


def _is_safetensors(path: str, start: bytes) -> bool:
    return path.endswith(SAFETENSORS) or start[8:10] == b'{"'


def _open_safetensors(path: str, *, tensors: bool) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The strings in the header, and the tensors, which may share the mapped file's memory."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = file.keys() if tensors else ()
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError, RuntimeError, AttributeError) as error:
        raise CheckpointError(_damaged(path, first_line(error))) from error


def _plain_safetensors(path: str) -> dict[str, Tensor]:
    header, tensors = _open_safetensors(path, tensors=True)
    if _is_of_packed(header):
        raise CheckpointError(
            f"{path} is a packed student, which can only be evaluated (--eval-only): to train on, "
            "set MODEL.WEIGHTS to the checkpoint that it was exported from."
        )
    return tensors


def _zip_reason(error: zipfile.BadZipFile) -> str:
    text = first_line(error)
    changed = re.search(r"Bad CRC-32 for file '(.*)'", text)
    return f"its part {changed[1]} does not match its checksum" if changed else text


def _damaged(path: str, reason: str) -> str:
    said = _printable(reason)
    return f"{path} is damaged or is not a checkpoint ({said}): copy or download it again."


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)[:_MOST_SIGNS]


def _refusal(path: str, name: str) -> str:
    name = _printable(name)
    return (
        f"{path} was refused because reading it would call {name}, and so could run any code: "
        "use a checkpoint that holds only arrays and plain values."
    )
