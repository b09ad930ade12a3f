"""What is installed is the library and the shared configs, under the license that is named."""

from __future__ import annotations

import posixpath
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import yaml
from helpers.recipes import ROOT

from distill.utils.version import VERSION

_BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    pytest.importorskip("setuptools", minversion="77")
    # A copy: building leaves files behind.
    tree = tmp_path_factory.mktemp("wheel") / "tree"
    tree.mkdir()
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, tree)
    for name in ("configs", "distill", "scripts", "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-c", _BUILD, str(tree)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    (file,) = tree.glob("*.whl")
    return zipfile.ZipFile(file)


def below(folder: str, pattern: str) -> set[str]:
    return {str(path.relative_to(ROOT / folder)) for path in (ROOT / folder).rglob(pattern)}


def test_the_wheel_holds_the_library_and_the_shared_configs_alone(wheel):
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    python = {f"distill/{name}" for name in below("distill", "*.py")}
    pages = {f"distill/labeling/view_page/{x}" for x in below("distill/labeling/view_page", "*.*")}
    configs = {f"distill/configs/{name}" for name in below("configs", "*.yaml")}
    pretraining = {name for name in configs if name.startswith("distill/configs/pretrain/")}
    assert pretraining
    assert names == python | pages | (configs - pretraining) | {"distill/configs/__init__.py"}


def test_bases_of_an_installed_config_are_installed_too(wheel):
    installed = set(wheel.namelist())
    for name in installed:
        base = re.search(rb'^_BASE_: "([^"]+)"', wheel.read(name), re.M)
        if name.endswith(".yaml") and base:
            path = posixpath.join(posixpath.dirname(name), base[1].decode())
            assert posixpath.normpath(path) in installed


def test_the_license_is_named_alike_everywhere(wheel):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["license"] == "Apache-2.0" and citation["version"] == VERSION
    assert (ROOT / "LICENSE").read_text().startswith("SPDX-License-Identifier: Apache-2.0\n")
    (metadata,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
    assert "\nLicense-Expression: Apache-2.0\n" in wheel.read(metadata).decode()
