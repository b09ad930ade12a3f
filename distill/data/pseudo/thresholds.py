"""Score thresholds by class, as a file that calibrate writes and everything else reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from distill.utils.files import first_line, load_json, write_json
from distill.utils.wording import some_of

__all__ = ["Thresholds"]


@dataclass(frozen=True)
class Thresholds:
    """Scores above which boxes are believed.

    Attributes:
        default: that of classes without one of their own.
        classes: by a class' name.
    """

    default: float = 0.5
    classes: dict[str, float] = field(default_factory=dict)

    def of(self, class_names: Sequence[str]) -> np.ndarray:
        """The thresholds (K,) of K classes."""
        return np.array([self.classes.get(name, self.default) for name in class_names], float)

    def check_classes(self, class_names: Sequence[str], source: str) -> None:
        """Refuses thresholds that another teacher was calibrated for.

        Args:
            class_names: the classes that they are for.
            source: what to call them in the message.

        Raises:
            ValueError: one sentence, if they are of none of the classes.
        """
        if self.classes and not set(self.classes) & set(class_names):
            raise ValueError(
                f"{source} has thresholds of {some_of(sorted(self.classes), 5)}, none of which is "
                f"among the classes {some_of(class_names, 5)}: give those of the same teacher."
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as files have them."""
        return {"default": self.default, "classes": self.classes}

    def save(self, path: str | Path, info: dict[str, object] | None = None) -> None:
        """Writes a JSON file, whole or not at all.

        Args:
            path: the file; its folder is made.
            info: a header; plain values.

        Raises:
            OSError: if it can't be written.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"info": info or {}, **self.as_dict()})

    @classmethod
    def load(cls, path: str | Path) -> Thresholds:
        """Reads what :meth:`save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: one sentence, if it is damaged or a threshold is not between 0 and 1.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"The thresholds file {path} does not exist: correct its path.")
        try:
            content = load_json(path.read_bytes())
            classes = {name: _number(x) for name, x in content["classes"].items()}
            default = _number(content["default"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else first_line(error)
            raise ValueError(
                f"{path} is no thresholds file ({reason}): it has a number `default`, and "
                "`classes`, which gives numbers by a class' name; make it by calibrate."
            ) from error
        for name, value in {"default": default, **classes}.items():
            if not 0 <= value <= 1:
                raise ValueError(
                    f"{path} has the threshold {value} of {name}: it must be from 0 to 1."
                )
        return cls(default, classes)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"{value!r} is no number")
    return float(value)
