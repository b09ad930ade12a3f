from __future__ import annotations

import json
import subprocess

import pytest

from distill.engine.run_files import git_revision, start_run_files, write_environment


def _write_metrics(folder, text: str) -> None:
    (folder / "metrics.json").write_text(text)


def _lines(*iterations: int) -> str:
    return "".join(json.dumps({"iteration": i}) + "\n" for i in iterations)


def test_a_resumed_run_drops_metrics_that_it_will_write_again(tmp_path):
    _write_metrics(tmp_path, _lines(19, 39, 59) + '{"iteration": 7')
    (tmp_path / "last_checkpoint").write_text("model_0000039.pth")
    writer = open(tmp_path / "metrics.json", "a")  # Detectron2 opens it before weights are loaded
    start_run_files(tmp_path, start_iter=40)
    writer.write(_lines(59))
    writer.close()
    assert (tmp_path / "metrics.json").read_text() == _lines(19, 39, 59)
    assert (tmp_path / "last_checkpoint").exists()


def test_only_later_metrics_go_whatever_else_the_file_holds(tmp_path):
    bad = [b'{"iteration": 9, "loss', b"\xff\xfe", b"5", b"not JSON"]
    without = b'{"time": 1.0}'
    lines = [_lines(19).encode().strip(), *bad[:2], without, _lines(99).encode().strip(), *bad[2:]]
    lines.append(_lines(39).encode().strip())  # No line end: a run was killed after it.
    (tmp_path / "metrics.json").write_bytes(b"\n".join(lines))
    start_run_files(tmp_path, start_iter=40)
    kept = _lines(19).encode() + without + b"\n" + _lines(39).encode()
    assert (tmp_path / "metrics.json").read_bytes() == kept
    assert (tmp_path / "metrics.unreadable.txt").read_bytes().splitlines() == bad
    start_run_files(tmp_path, start_iter=40)
    assert len((tmp_path / "metrics.unreadable.txt").read_bytes().splitlines()) == len(bad)


def test_a_start_that_is_killed_loses_no_metrics(tmp_path, monkeypatch):
    _write_metrics(tmp_path, _lines(19, 59, 39))

    def kill(*_: object) -> None:
        _write_metrics(tmp_path, _lines(19)[:7])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("distill.engine.run_files.open", kill, raising=False)
        with pytest.raises(KeyboardInterrupt):
            start_run_files(tmp_path, start_iter=40)
    start_run_files(tmp_path, start_iter=40)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]
    assert (tmp_path / "metrics.json").read_text() == _lines(19, 39)


def test_a_new_run_puts_an_older_one_aside(tmp_path):
    _write_metrics(tmp_path, _lines(19))
    (tmp_path / "last_checkpoint").write_text("model_0000019.pth")
    (tmp_path / "model_0000019.pth").write_bytes(b"x")
    (tmp_path / ".model_0000039.pth.99999999.unfinished").write_bytes(b"x")
    start_run_files(tmp_path, start_iter=0)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "metrics.json": "",
        "metrics.old.json": _lines(19),
        "model_0000019.pth": "x",
    }


def test_the_git_revision_tells_modified_files(tmp_path):
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert git_revision(tmp_path) == "unknown"
    git("init", "-q")
    assert git_revision(tmp_path) == "unknown"  # no commit yet
    git("commit", "-q", "--allow-empty", "-m", "x")
    revision = git("rev-parse", "HEAD")
    assert git_revision(tmp_path) == revision
    (tmp_path / "new").touch()
    assert git_revision(tmp_path) == f"{revision} (modified)"
    (tmp_path / "inner").mkdir()
    assert git_revision(tmp_path / "inner") == "unknown"


def test_the_environment_is_written(tmp_path):
    write_environment(tmp_path)
    text = (tmp_path / "env.txt").read_text()
    assert text.startswith("git revision: ")
    assert "PyTorch" in text
