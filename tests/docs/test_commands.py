"""What pages tell a reader to type exists: scripts, options, config files, keys."""

from __future__ import annotations

import argparse
import importlib.util
import re
from pathlib import Path

import pytest
from detectron2.config import CfgNode, get_cfg
from helpers.pages import PAGES, PYTHON, ROOT, blocks, commands, name

from distill import add_distill_config
from distill.engine import training_parser

_TYPED = [(page, words) for page in PAGES for words in commands(page)]
_IDS = [f"{name(page)}-{number}" for number, (page, _) in enumerate(_TYPED)]
_PAGES_WITH_YAML = [page for page in PAGES if blocks(page, "yaml")]


@pytest.mark.parametrize(("page", "words"), _TYPED, ids=_IDS)
def test_every_command_names_what_exists(
    page: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = ROOT / words[0]
    assert script.is_file()
    for word in words[1:]:
        if word.startswith(("configs/", "projects/")) and word.endswith((".yaml", ".yml")):
            assert (ROOT / word).is_file(), word
    args = _parsed(script, words[1:], monkeypatch)
    # KEY VALUE overrides of a config; those of `generate` are of another parser's option.
    if script.stem in ("train_net", "analyze", "export_student") and args.opts:
        _config_of(args).merge_from_list(args.opts)


def _parsed(
    script: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> argparse.Namespace | None:
    """What a script makes of its arguments; one that does not understand them exits."""
    monkeypatch.setattr("sys.argv", [str(script), *arguments])
    spec = importlib.util.spec_from_file_location(f"typed_{script.stem}", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if hasattr(module, "parse_arguments"):
        return module.parse_arguments()
    makers = ("parser", "build_parser")
    parser = next((getattr(module, maker) for maker in makers if hasattr(module, maker)), None)
    if parser is None and hasattr(module, "training_parser"):
        parser = training_parser
    return parser().parse_args() if parser else None


def _config_of(args: argparse.Namespace) -> CfgNode:
    cfg = get_cfg()
    add_distill_config(cfg)
    if (ROOT / args.config_file).is_file():
        cfg.merge_from_file(str(ROOT / args.config_file))
    return cfg


@pytest.mark.parametrize("page", _PAGES_WITH_YAML, ids=name)
def test_every_key_in_yaml_exists(page: Path, tmp_path: Path) -> None:
    for text in blocks(page, "yaml"):
        cfg = get_cfg()
        add_distill_config(cfg)
        file = tmp_path / "block.yaml"
        file.write_text(re.sub(r"^_BASE_: .*$", "", text, flags=re.MULTILINE))
        cfg.merge_from_file(str(file))


def test_make_has_the_targets_that_pages_name() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target
        for page in PAGES
        for target in re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), re.MULTILINE)
    }
    assert named and named <= targets


def test_pages_call_python_as_make_installs_it() -> None:
    calls = re.compile(r"^(?!\.venv)\S*python3? scripts/(?!install_detectron2)", re.MULTILINE)
    for page in PAGES:
        assert not calls.search(page.read_text()), f"{name(page)}: write {PYTHON}"
