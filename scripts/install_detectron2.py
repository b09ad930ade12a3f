"""Installs Detectron2 beside an installed torch and torchvision; leaves a working one alone.

Detectron2 is not on the package registry under its own name. ``--from sdist`` (the default) takes
``pb1-detectron2`` 0.6, whose Python files and configs are those of the official tag v0.6, pinned by
sha256; edits it for current libraries (detectron2_patches.py) and builds a pure-Python wheel. That
needs no compiler; rotated boxes and deformable convolutions raise ImportError when used.
``--from git`` builds official main, with its compiled extension, where git can reach it.

Everything is downloaded, built and imported for a try in a temporary folder. Detectron2 itself is
installed last, so a failure before that leaves the environment without half of it.

    python scripts/install_detectron2.py [--from {sdist,git}] [--git-url URL]
        [--constraint FILE] [--force] [--verbose]
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import detectron2_patches as patches

SDIST = "pb1-detectron2==0.6"
SDIST_SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"
GIT_URL = "https://github.com/facebookresearch/detectron2"
SETUPTOOLS_OF_MAIN = "setuptools<82"  # official main imports pkg_resources
logger = logging.getLogger("install_detectron2")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")

CHECK = """\
import torch, detectron2, detectron2.layers, detectron2.engine, detectron2.evaluation
import detectron2.modeling, detectron2.data.transforms
from detectron2 import model_zoo
model_zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml")
print(detectron2.__version__, detectron2.__file__)
"""


class InstallError(RuntimeError):
    """Why nothing was installed, in one sentence."""


def run(
    command: Sequence[object],
    purpose: str,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Runs a command.

    Args:
        command: the program and its arguments.
        purpose: what it is for; completes the sentence "could not ...".
        environment: variables that replace or join those of this process.
        cwd: the folder to run it in.

    Returns:
        Its output, both streams together.

    Raises:
        InstallError: it failed.
    """
    try:
        done = subprocess.run(
            [str(part) for part in command],
            env={**os.environ, **(environment or {})},
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise InstallError(f"could not {purpose}: {error}") from error
    logger.debug("+ %s\n%s", " ".join(map(str, command)), done.stdout)
    if done.returncode:
        raise InstallError(f"could not {purpose}: {reason(done.stdout)}")
    return done.stdout


def reason(output: str) -> str:
    """The line of a failed command's output that says most about why it failed."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(error|fatal)\b", line, re.I)]
    return (errors[:1] or lines[-1:] or ["it failed without a word"])[0]


def try_import(environment: Mapping[str, str] | None = None) -> str:
    """Imports Detectron2 in a new process, away from the working directory.

    Returns:
        Its version and place.

    Raises:
        InstallError: it cannot be imported.
    """
    command = (sys.executable, "-W", "ignore", "-c", CHECK)
    elsewhere = Path(tempfile.gettempdir())
    return run(command, "import detectron2", environment, elsewhere).splitlines()[-1]


def installed_version() -> str | None:
    """The version of the installed distribution detectron2, be it broken or not."""
    try:
        return importlib.metadata.version("detectron2")
    except importlib.metadata.PackageNotFoundError:
        return None


def make_tools(folder: Path, requirement: str, stub: Mapping[str, str]) -> dict[str, str]:
    """Installs build tools in a folder of their own: an environment's may be absent or too old.

    Args:
        folder: the folder to make.
        requirement: the setuptools to use.
        stub: further files, path to text.

    Returns:
        The variables that put the folder first on the path of a build.
    """
    command = (*PIP, "install", "-qq", "--target", folder, requirement, "wheel")
    run(command, "get the build tools setuptools and wheel")
    write_files(folder, stub)
    path = (str(folder), os.environ.get("PYTHONPATH"))
    return {"PYTHONPATH": os.pathsep.join(filter(None, path))}


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Writes files, path to text, below a folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def download_sdist(folder: Path, tools: Mapping[str, str], sha256: str = SDIST_SHA256) -> Path:
    """Downloads the sdist with pip and unpacks it.

    Raises:
        InstallError: it cannot be downloaded, or its sha256 differs.
    """
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{SDIST} --hash=sha256:{sha256}\n", encoding="utf-8")
    command = (*PIP, "download", "-qq", "--no-deps", "--no-build-isolation", "--no-binary", ":all:")
    options = ("--require-hashes", "--dest", folder, "--requirement", requirements)
    try:
        run((*command, *options), f"download {SDIST}", tools)
    except InstallError as error:
        if "DO NOT MATCH THE HASHES" in str(error):
            raise InstallError(
                f"the {SDIST} that pip found does not have the pinned sha256 {sha256}, so it was "
                "not used: find out where pip took it from (pip config list)"
            ) from None
        raise
    (archive,) = folder.glob("*.tar.gz")
    if hashlib.sha256(archive.read_bytes()).hexdigest() != sha256:  # pip's word is not taken
        raise InstallError(f"{archive.name} does not have the pinned sha256 {sha256}")
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(folder, filter="data")
        else:  # old patch releases of Python 3.9 to 3.11
            tar.extractall(folder)
    return folder / archive.name[: -len(".tar.gz")]


def apply_rules(source: Path, rules: Iterable[patches.Rule]) -> None:
    """Edits the unpacked sdist in place.

    Raises:
        InstallError: a rule does not match exactly as often as it says.
    """
    for rule in rules:
        total = 0
        for path in sorted(source.glob(rule.files)):
            text = path.read_text("utf-8")
            text, count = re.subn(rule.pattern, rule.replacement, text, flags=re.M)
            if count:
                path.write_text(text, encoding="utf-8")
                total += count
        if total != rule.matches:
            raise InstallError(
                f"the edit {rule.pattern!r} of {rule.files} matched {total} times instead of "
                f"{rule.matches}: the source is not the one detectron2_patches.py was written for"
            )


def build_from_sdist(folder: Path) -> Path:
    """Builds the pure-Python wheel of Detectron2 0.6 in a folder."""
    tools = make_tools(folder / "tools", "setuptools>=77", patches.SETUP_STUB)
    source = download_sdist(folder, tools)
    apply_rules(source, patches.RULES)
    tree = folder / "tree"
    shutil.copytree(source / "detectron2", tree / "detectron2")
    shutil.copy(source / "LICENSE", tree)
    for name, place in patches.PROJECTS.items():
        shutil.copytree(source / place, tree / "detectron2" / "projects" / name)
    write_files(tree, {**patches.NEW_FILES, "pyproject.toml": patches.PYPROJECT})
    return build_wheel(tree, folder / "wheel", tools)


def build_from_git(folder: Path, url: str) -> Path:
    """Builds the wheel of official main, against the installed torch, in a folder."""
    checkout = folder / "checkout"
    patience = ("-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=60")
    command = ("git", *patience, "clone", "--quiet", "--depth", "1", "--", url, checkout)
    purpose = f"reach {url} with git (leave out --from git to build the pinned sdist)"
    run(command, purpose, {"GIT_TERMINAL_PROMPT": "0"})
    tools = make_tools(folder / "tools", SETUPTOOLS_OF_MAIN, {})
    return build_wheel(checkout, folder / "wheel", tools)


def build_wheel(tree: Path, into: Path, tools: Mapping[str, str]) -> Path:
    """Builds the wheel of a source tree with the given tools."""
    command = (*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", into, tree)
    run(command, "build the wheel of Detectron2", tools)
    (wheel,) = into.glob("*.whl")
    return wheel


def install(options: argparse.Namespace) -> str:
    """Builds, tries and installs Detectron2; returns its version and place."""
    missing = [name for name in ("torch", "torchvision") if not importlib.util.find_spec(name)]
    if missing:
        raise InstallError(
            f"{' and '.join(missing)} must be installed before Detectron2: "
            "run `make setup`, or pip install torch torchvision"
        )
    constraint = ("--constraint", options.constraint) if options.constraint else ()
    with tempfile.TemporaryDirectory(prefix="detectron2-") as name:
        folder = Path(name)
        requirements = list(patches.DEPENDENCIES)
        if options.source == "git":
            wheel = build_from_git(folder, options.git_url)
            requirements.append(SETUPTOOLS_OF_MAIN)
        else:
            wheel = build_from_sdist(folder)
        run((*PIP, "install", "-qq", *constraint, *requirements), "install what Detectron2 needs")
        # Without its own requirements: main's cap iopath below the release that works with both.
        unpack = (*PIP, "install", "-qq", "--no-deps")
        run((*unpack, "--target", folder / "trial", wheel), "unpack the wheel of Detectron2")
        try:
            try_import({"PYTHONPATH": str(folder / "trial")})
        except InstallError as error:
            raise InstallError(f"the Detectron2 just built does not work: {error}") from error
        run((*unpack, "--force-reinstall", wheel), "install Detectron2")
    return try_import()


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--from", dest="source", choices=("sdist", "git"), default="sdist", help="what to build"
    )
    parser.add_argument("--git-url", default=GIT_URL, help="repository for --from git")
    parser.add_argument("--constraint", type=Path, help="pins of its dependencies, for pip")
    parser.add_argument("--force", action="store_true", help="replace an installed Detectron2")
    parser.add_argument("--verbose", action="store_true", help="show the output of every command")
    return parser.parse_args(arguments)


def main() -> int:
    """Runs the script; returns its exit status."""
    options = parse_arguments()
    logging.basicConfig(format="%(message)s", level=logging.DEBUG if options.verbose else None)
    try:
        present = installed_version()
        if not options.force:
            try:
                print("Detectron2 is already installed:", try_import())
                return 0
            except InstallError as error:
                if present:
                    raise InstallError(
                        f"detectron2 {present} is installed but broken ({error}): "
                        "run again with --force to replace it"
                    ) from error
        print(f"building Detectron2 from {options.source} ...", flush=True)
        print("installed Detectron2", install(options))
    except InstallError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
