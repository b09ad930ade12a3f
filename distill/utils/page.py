"""One self-contained HTML page of an experiment: nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.detections import Picture
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

__all__ = ["Example", "image_uri", "render_page", "svg_uri"]


@dataclass
class Example:
    """A row of pictures of one image.

    Attributes:
        uri: the image as a data URI.
        width: its width in pixels.
        height: its height in pixels.
        pictures: title -> what is drawn on it.
    """

    uri: str
    width: int
    height: int
    pictures: dict[str, Picture]

    @classmethod
    def of_file(cls, path: str | Path, pictures: dict[str, Picture]) -> Example:
        """Reads the image file."""
        with Image.open(path) as image:
            rgb = image.convert("RGB")
        return cls(image_uri(rgb), rgb.width, rgb.height, pictures)


def image_uri(image: Image.Image) -> str:
    """Returns an image as a PNG data URI."""
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=True)
    return _data_uri("image/png", stream.getvalue())


def svg_uri(document: str) -> str:
    """Returns an SVG document as a data URI."""
    return _data_uri("image/svg+xml", document.encode())


def render_page(template: Path, values: dict[str, Any]) -> str:
    """Fills a Jinja template in.

    Args:
        template: the HTML file; values are escaped.
        values: name -> value; every name that the template uses must be there.
    """
    environment = Environment(
        loader=FileSystemLoader(template.parent), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template(template.name).render(values)


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
