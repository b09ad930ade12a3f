"""HTML pages in one file: nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

__all__ = ["data_uri", "image_uri", "render_page"]


def data_uri(media_type: str, content: bytes) -> str:
    """Returns a file's content as a data URI of its media type."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def image_uri(image: Image.Image) -> str:
    """Returns an image as a PNG data URI."""
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=True)
    return data_uri("image/png", stream.getvalue())


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
