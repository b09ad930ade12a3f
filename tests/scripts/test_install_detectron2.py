"""The installer's failures are one sentence and leave nothing behind.

Nothing is downloaded: pip sees a folder of fake files, git a path that does not exist.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import detectron2_patches as patches
import install_detectron2 as installer
import pytest

SCRIPT = Path(installer.__file__)


def run_script(
    python: str | Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PIP_NO_INDEX": "1", **variables}
    return subprocess.run(
        [str(python), str(SCRIPT), *arguments], capture_output=True, text=True, env=environment
    )


def assert_one_sentence(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    for part in parts:
        assert part in done.stderr


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The interpreter of an environment without torch, pip or anything else."""
    folder = tmp_path / "bare"
    venv.create(folder, with_pip=False)
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


def site_packages(python: Path) -> Path:
    command = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    return Path(subprocess.check_output(command, text=True).strip())


@pytest.fixture
def with_torch(bare: Path) -> Path:
    """The same with packages that pass for torch and torchvision."""
    for name in ("torch", "torchvision"):
        (site_packages(bare) / f"{name}.py").touch()
    return bare


def contents(folder: Path) -> set[str]:
    found = (str(path.relative_to(folder)) for path in folder.rglob("*"))
    return {name for name in found if "__pycache__" not in name}


def test_working_detectron2_is_left_alone() -> None:
    files = importlib.metadata.files("detectron2") or []
    (place,) = (Path(str(file.locate())) for file in files if file.name == "RECORD")
    before = place.stat().st_mtime_ns, place.read_bytes()
    done = run_script(sys.executable)
    assert done.returncode == 0, done.stderr
    assert "already installed" in done.stdout
    assert (place.stat().st_mtime_ns, place.read_bytes()) == before


def test_missing_torch_is_named(bare: Path) -> None:
    before = contents(site_packages(bare))
    assert_one_sentence(run_script(bare), "torch and torchvision must be installed")
    assert contents(site_packages(bare)) == before


def test_unreachable_repository_is_named(with_torch: Path, tmp_path: Path) -> None:
    url = str(tmp_path / "no-such-repository")
    before = contents(site_packages(with_torch))
    done = run_script(with_torch, "--from", "git", "--git-url", url)
    assert_one_sentence(done, url, "does not exist", "leave out --from git")
    assert contents(site_packages(with_torch)) == before


def test_failing_pip_is_reported_with_its_reason(with_torch: Path) -> None:
    before = contents(site_packages(with_torch))
    done = run_script(with_torch)
    assert_one_sentence(done, "build tools setuptools and wheel", "No module named pip")
    assert contents(site_packages(with_torch)) == before


def test_broken_detectron2_is_replaced_only_when_asked(with_torch: Path) -> None:
    packages = site_packages(with_torch)
    (packages / "detectron2-9.9.dist-info").mkdir()
    (packages / "detectron2-9.9.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: detectron2\nVersion: 9.9\n"
    )
    before = contents(packages)
    done = run_script(with_torch)
    assert_one_sentence(done, "detectron2 9.9", "No module named 'detectron2'", "--force")
    assert contents(packages) == before
    # With --force it goes on to the build, which fails here for want of pip.
    assert_one_sentence(run_script(with_torch, "--force"), "No module named pip")


def test_temporary_folder_is_removed_after_a_failure(with_torch: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert run_script(with_torch, TMPDIR=str(scratch)).returncode == 1
    assert list(scratch.iterdir()) == []


def test_sdist_of_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "index"
    index.mkdir()
    with tarfile.open(index / "pb1-detectron2-0.6.tar.gz", "w:gz") as tar:
        text = b"raise SystemExit('the setup.py of an unverified sdist was run')\n"
        member = tarfile.TarInfo("pb1-detectron2-0.6/setup.py")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(installer.InstallError, match="does not have the pinned sha256 5d2e9e51e"):
        installer.download_sdist(into, {})
    assert contents(into) == {"requirements.txt"}


def test_absent_sdist_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(installer.InstallError, match=r"could not download pb1-detectron2==0\.6: "):
        installer.download_sdist(tmp_path, {})


def test_rules_edit_every_file_they_name(tmp_path: Path) -> None:
    installer.write_files(
        tmp_path, {"a/x.py": "np.bool, np.bool_\n", "a/b/y.py": "np.int\n", "z.py": "np.int\n"}
    )
    rules = [patches.Rule("a/**/*.py", r"\bnp\.(bool|int)\b", r"\1", 2)]
    installer.apply_rules(tmp_path, rules)
    texts = {path.name: path.read_text() for path in tmp_path.rglob("*.py")}
    assert texts == {"x.py": "bool, np.bool_\n", "y.py": "int\n", "z.py": "np.int\n"}


@pytest.mark.parametrize(("expected", "found"), [(1, 2), (3, 2)])
def test_rule_that_matches_another_number_of_times_stops(
    tmp_path: Path, expected: int, found: int
) -> None:
    installer.write_files(tmp_path, {"a.py": "old\nold\n"})
    message = rf"'\^old\$' of a\.py matched {found} times instead of {expected}"
    with pytest.raises(installer.InstallError, match=message):
        installer.apply_rules(tmp_path, [patches.Rule("a.py", "^old$", "new", expected)])


def test_real_rules_refuse_another_source(tmp_path: Path) -> None:
    installer.write_files(
        tmp_path, {"detectron2/layers/deform_conv.py": "from detectron2 import _C, other\n"}
    )
    with pytest.raises(installer.InstallError, match=r"deform_conv\.py matched 0 times"):
        installer.apply_rules(tmp_path, patches.RULES)


def test_guarded_extension_raises_only_when_used(tmp_path: Path) -> None:
    namespace: dict[str, object] = {}
    exec(patches.NEW_FILES["detectron2/utils/no_extension.py"], namespace)
    with pytest.raises(ImportError, match=r"which nms_rotated\(\) needs"):
        namespace["_C"].nms_rotated  # noqa: B018
    assert not hasattr(namespace["_C"], "__wrapped__")


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("working\nERROR: no such thing\nERROR: failed\n", "ERROR: no such thing"),
        ("Cloning\nfatal: repository 'x' does not exist\nhint\n", "fatal: repository 'x'"),
        ("Traceback\n  File\nModuleNotFoundError: No module named 'y'\n\n", "ModuleNotFoundError"),
        ("", "it failed without a word"),
    ],
)
def test_reason_is_the_line_that_says_why(output: str, line: str) -> None:
    assert installer.reason(output).startswith(line)
