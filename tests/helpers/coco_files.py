"""Tiny COCO files, as exporters write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["coco", "write_coco"]


def coco(**changes: Any) -> dict[str, Any]:
    """Two images with two boxes each, of two classes; a change replaces a whole key."""
    boxes = [(1, 4), (1, 9), (2, 9), (2, 4)]
    content = {
        "info": {},
        "images": [
            {"id": 1, "file_name": "a.png", "width": 64, "height": 48},
            {"id": 2, "file_name": "b.png", "width": 64, "height": 48},
        ],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": category,
                "bbox": [3.0 * number, 4.0, 20.0, 22.5],
                "area": 450.0,
                "iscrowd": 0,
            }
            for number, (image, category) in enumerate(boxes, start=1)
        ],
        "categories": [{"id": 4, "name": "ant"}, {"id": 9, "name": "bee"}],
    }
    return {**content, **changes}


def write_coco(path: Path, content: Any, encoding: str = "utf-8") -> Path:
    """Writes content as JSON; returns the path."""
    path.write_bytes(json.dumps(content).encode(encoding))
    return path
