"""A teacher's weights: found, loaded, and refused unless they cover it."""

from __future__ import annotations

import logging

from detectron2.utils.file_io import PathManager
from torch import nn

from distill.utils.checkpoint import CheckpointError, SafeCheckpointer
from distill.utils.coverage import check_complete, measure_coverage
from distill.utils.model_zoo import is_in_zoo, zoo_checkpoint
from distill.utils.weight_files import look_at_weight_file

__all__ = ["CONFIG_KEY", "WEIGHTS_KEY", "load_covering_weights", "local_weights"]

CONFIG_KEY = "DISTILL.TEACHER.CONFIG_FILE"
WEIGHTS_KEY = "DISTILL.TEACHER.WEIGHTS"


def load_covering_weights(
    model: nn.Module,
    reference: str,
    *,
    allow_partial: bool | None = None,
    key: str = WEIGHTS_KEY,
    config_key: str = CONFIG_KEY,
) -> None:
    """Loads weights into a teacher and refuses what does not cover it.

    Args:
        model: the teacher, at its random initialization.
        reference: a path, a URL, or model_zoo://<config path>.
        allow_partial: DISTILL.TEACHER.ALLOW_PARTIAL, with which only part of the teacher may be
            covered; None where there is no such key.
        key: the config key or option that the weights come from, for messages.
        config_key: that of the teacher's config.

    Raises:
        ValueError: one sentence, if they do not cover the model.
        FileNotFoundError: if the file does not exist or cannot be fetched.
    """
    checkpointer = SafeCheckpointer(model)
    checkpointer.load(local_weights(reference, key))
    found = measure_coverage(model, checkpointer.incompatible)
    message = found.told(reference, "teacher's")
    if allow_partial and found.percent > 0 and (found.lost or found.deeper):
        lost = ", ".join(found.lost) or "nothing"
        logging.getLogger(__name__).warning("Teacher: %s; lacking: %s.", message, lost)
        return
    way_out = "" if allow_partial is None else ", or set DISTILL.TEACHER.ALLOW_PARTIAL True"
    check_complete(
        found, reference, key=key, config_key=config_key, whose="teacher's", way_out=way_out
    )
    logging.getLogger(__name__).info("Teacher: %s.", message)


def local_weights(reference: str, key: str = WEIGHTS_KEY) -> str:
    """A local file with weights, looked at but not read whole.

    Args:
        reference: a path, a URL, or model_zoo://<config path>.
        key: the config key or option that it comes from, for messages.

    Raises:
        FileNotFoundError: if there is no such file or it cannot be fetched.
        CheckpointError: one sentence with the key, if it is no file of weights.
    """
    url = zoo_checkpoint(reference, key) if is_in_zoo(reference) else reference
    try:
        path = PathManager.get_local_path(url)
    except OSError as error:
        raise FileNotFoundError(
            f"{key}: {url} could not be downloaded ({error}); download it elsewhere and set "
            f"{key} to the file"
        ) from error
    if not PathManager.isfile(path):
        raise FileNotFoundError(
            f"{key}: there is no file {reference} (paths are relative to the working directory); "
            f"train the teacher first, or correct {key}"
        )
    try:
        look_at_weight_file(path)
    except CheckpointError as error:
        raise CheckpointError(f"{key}: {error}") from error
    return path
