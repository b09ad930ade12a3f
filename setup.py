"""The packages of the wheel; all else about it is in setup.cfg.

The configs that projects share stay where the repository's commands name them, and are installed as
distill/configs. Pre-training is no part of the library, nor are its configs.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["distill", "distill.*"]), "distill.configs"],
    package_dir={"distill.configs": "configs"},
    package_data={
        "distill.configs": ["coco/*.yaml", "digits/*.yaml", "voc/*.yaml"],
        "distill.labeling": ["view_page/*"],
    },
)
