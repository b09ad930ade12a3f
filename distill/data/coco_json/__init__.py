"""The one reader of COCO JSON: what is meant unmistakably is made plain, the rest is refused.

Training, evaluation, labeling and DATASETS.PSEUDO see what :func:`read_coco` makes of a file.
"""

from distill.data.coco_json.file import CocoFile
from distill.data.coco_json.reading import forget_large_files, read_coco

__all__ = ["CocoFile", "forget_large_files", "read_coco"]
