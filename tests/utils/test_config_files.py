"""A config file, those below it, and overrides: read as data, and named where they are wrong."""

from __future__ import annotations

from pathlib import Path

import detectron2.model_zoo
import pytest
from detectron2.config import CfgNode, get_cfg

from distill import add_distill_config
from distill.utils.config_files import merge_file, merge_overrides

ZOO = Path(detectron2.model_zoo.__file__).parent / "configs"
ANCHORS = '"[[x, x * 2**(1.0/3)] for x in [32, 64]]"'


def new_config() -> CfgNode:
    cfg = get_cfg()
    add_distill_config(cfg)
    return cfg


def read(folder: Path, **files: str) -> CfgNode:
    """The config of the first of these files, whose names end in .yaml."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    cfg = new_config()
    merge_file(cfg, folder / f"{next(iter(files))}.yaml", key="--config-file")
    return cfg


@pytest.mark.parametrize("path", sorted(ZOO.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_of_the_zoo_reads_as_detectron2_reads_it(path):
    ours, theirs = new_config(), new_config()
    merge_file(ours, path, key="--config-file")
    theirs.merge_from_file(str(path), allow_unsafe=True)
    assert ours == theirs


def test_a_base_may_be_relative_absolute_at_home_or_several(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home/b.yaml").write_text("SEED: 2\nOUTPUT_DIR: b\n")
    (tmp_path / "home/c.yaml").write_text("SEED: 3\n_BASE_: b.yaml\n")
    assert read(tmp_path, a="_BASE_: home/c.yaml").SEED == 3
    assert read(tmp_path, a=f"_BASE_: {tmp_path}/home/c.yaml").OUTPUT_DIR == "b"
    assert read(tmp_path, a="_BASE_: ~/c.yaml\nSEED: 4").SEED == 4
    assert read(tmp_path, a="_BASE_: [~/c.yaml, home/b.yaml]").SEED == 2


def test_a_computed_list_is_computed_in_a_base_too(tmp_path):
    base = f"MODEL: {{ANCHOR_GENERATOR: {{SIZES: !!python/object/apply:eval [{ANCHORS}]}}}}"
    sizes = read(tmp_path, a="_BASE_: b.yaml", b=base).MODEL.ANCHOR_GENERATOR.SIZES
    assert sizes == [[x, x * 2 ** (1.0 / 3)] for x in [32, 64]]


def test_a_config_of_detectron2s_first_version_is_converted(tmp_path):
    cfg = read(tmp_path, a="MODEL: {WEIGHT: old.pkl}\nTEST: {AUG_ON: True}")
    assert cfg.MODEL.WEIGHTS == "old.pkl" and cfg.TEST.AUG.ENABLED
    assert cfg.VERSION == get_cfg().VERSION and cfg.DISTILL.METHODS == ()


def test_a_group_without_values_changes_nothing(tmp_path):
    assert read(tmp_path, a="MODEL:\nSEED: 3").MODEL == new_config().MODEL


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"a": ""}, "a.yaml is empty"),
        ({"a": "# nothing"}, "a.yaml is empty"),
        ({"a": "- 1"}, "a.yaml holds .* a config is keys"),
        ({"a": "[" * 1000}, "a.yaml is nested too deeply"),
        ({"a": "SOLVER: {MAX_ITR: 1}"}, 'no key SOLVER.MAX_ITR; did you mean "SOLVER.MAX_ITER"'),
        ({"a": "MAX_ITER: 1"}, 'no key MAX_ITER; did you mean "SOLVER.MAX_ITER"'),
        ({"a": "Solver: {}"}, 'no key Solver; did you mean "SOLVER"'),
        ({"a": "1: 2"}, "there is no key 1$"),
        ({"a": "SOLVER: 3"}, "SOLVER is 3, but is a group of keys: .* such as SOLVER\\.[A-Z]"),
        ({"a": "SOLVER: {MAX_ITER: many}"}, "a.yaml: SOLVER.MAX_ITER is 'many', but must be"),
        ({"a": "SEED: {X: 1}"}, "a.yaml: SEED is .*, but must be a whole number"),
        ({"a": "_BASE_: b.yaml", "b": "SED: 1"}, "a.yaml: _BASE_ .*b.yaml: there is no key SED"),
        ({"a": "_BASE_: b.yaml", "b": ""}, "a.yaml: _BASE_ .*b.yaml is empty"),
        ({"a": "_BASE_: a.yaml"}, "a.yaml: _BASE_ .*a.yaml is based on itself"),
        ({"a": "_BASE_: b.yaml", "b": "_BASE_: [a.yaml]"}, "_BASE_ .*a.yaml is based on itself"),
        ({"a": "_BASE_: 3"}, "_BASE_ is 3, but is the path"),
        ({"a": "_BASE_: ''"}, "_BASE_ is '', but is the path"),
        ({"a": "_BASE_: [[b.yaml]]"}, "_BASE_ is \\['b.yaml'\\], but is the path"),
        ({"a": "_BASE_: ."}, "_BASE_ .* is a folder"),
        ({"a": "_BASE_: b.py"}, "_BASE_ .*b.py is Python"),
        ({"a": "VERSION: 3"}, "VERSION is 3, but this Detectron2 reads 2"),
        ({"a": "VERSION: x"}, "VERSION is 'x', but this Detectron2 reads 2"),
    ],
)
def test_a_wrong_config_is_one_sentence_with_file_and_key(tmp_path, files, reason):
    with pytest.raises(ValueError, match=f"^--config-file .*{reason}") as caught:
        read(tmp_path, **files)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named_with_what_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="^--config-file .*a.yaml: _BASE_ .*b.yaml does no"):
        read(tmp_path, a="_BASE_: b.yaml")
    for reference in ("nowhere.yaml", "a\0b", str(tmp_path / "a.yaml" / "b.yaml")):
        with pytest.raises(FileNotFoundError, match="^--config-file .* does not exist"):
            merge_file(new_config(), reference, key="--config-file")


def test_a_folder_or_a_python_config_is_refused(tmp_path):
    for reference, reason in ((str(tmp_path), "is a folder"), ("lazy.py", "is Python")):
        with pytest.raises(ValueError, match=reason):
            merge_file(new_config(), reference, key="--config-file")


def test_bases_that_multiply_end(tmp_path):
    chain = {f"a{i}": f"_BASE_: [a{i + 1}.yaml, a{i + 1}.yaml]" for i in range(30)}
    with pytest.raises(ValueError, match="more than 50 files"):
        read(tmp_path, **chain, a30="SEED: 1")


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        (["SEED"], "'SEED', the last of them, has no value$"),
        (["SEED", "1", "X=3"], "'X=3', .* has no value: write KEY VALUE"),
        (["SOLVER.BASE_RL", "1"], 'no key SOLVER.BASE_RL; did you mean "SOLVER.BASE_LR"'),
        (["SEED.X", "1"], "SEED is"),
        (["MODEL", "1"], "MODEL is '1', but is a group of keys"),
        (["_BASE_", "x.yaml"], "no key _BASE_"),
        (["SOLVER.MAX_ITER", "many"], "SOLVER.MAX_ITER is 'many', but must be a whole number"),
        (["", "1"], "no key"),
        ([".", "1"], "no key"),
        ([3, 4], "no key 3"),
        (["A." * 5000, "1"], "no key"),
    ],
)
def test_a_wrong_override_is_one_sentence_with_its_key(pairs, reason):
    with pytest.raises(ValueError, match=f"^OPTS: .*{reason}") as caught:
        merge_overrides(new_config(), pairs, key="OPTS")
    assert len(str(caught.value)) < 300


def test_overrides_may_be_text_or_values():
    cfg = new_config()
    merge_overrides(cfg, ["SOLVER.STEPS", "(1, 2)", "SEED", 3, "DISTILL.METHODS", "TADF"], key="")
    assert (cfg.SOLVER.STEPS, cfg.SEED, cfg.DISTILL.METHODS) == ((1, 2), 3, ("TADF",))
