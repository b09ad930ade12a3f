"""Image files: how everybody reads them, and which of a dataset's can't be used."""

from distill.data.image_files.reading import UnreadableImage, read_image, read_record

__all__ = ["UnreadableImage", "read_image", "read_record"]
