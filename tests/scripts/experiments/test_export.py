"""Exported runs: what is kept, what is hidden."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

from experiments.export import export_runs, hide_paths, thin_metrics
from experiments.plan import Plan, Run


def test_paths_of_this_machine_become_placeholders() -> None:
    home, here = Path.home(), Path.cwd()
    text = f"from {here}/a.yaml and {home}/b by {sys.prefix}/bin/python, /srv/disk/runs/c.pth"
    assert (
        hide_paths(text) == "from <root>/a.yaml and <home>/b by <python>/bin/python, <path>/c.pth"
    )


def test_what_only_looks_like_a_path_stays() -> None:
    text = "0.1 s/iter, Inference done 11/300, tcp://127.0.0.1:4/x, model_zoo://COCO/a/b.yaml a/b/c"
    assert hide_paths(text) == text


def test_metrics_are_thinned_but_evaluations_and_the_end_stay() -> None:
    records = [{"iteration": i, "loss": 1 / 3, "eta_seconds": 5.0} for i in range(1000)]
    records[7]["bbox/AP"] = 12.3456789
    kept = [
        json.loads(line)
        for line in thin_metrics("\n".join(map(json.dumps, records))).split("\n")[:-1]
    ]
    assert len(kept) <= 62
    assert kept[-1] == {"iteration": 999, "loss": 0.33333}
    assert {"iteration": 7, "loss": 0.33333, "bbox/AP": 12.346} in kept


def test_only_finished_runs_are_exported_without_weights_and_paths(tmp_path: Path) -> None:
    runs = [Run("run", seed, "x.yaml", (), tmp_path / "run" / f"seed{seed}") for seed in range(2)]
    for run in runs:
        run.folder.mkdir(parents=True)
        (run.folder / "config.yaml").write_text(f"OUTPUT_DIR: {run.folder}\n")
        (run.folder / "env.txt").write_text("git revision: abc\n")
        (run.folder / "metrics.json").write_text('{"iteration": 0}\n')
        (run.folder / "log.txt").write_text(f"\x1b[32mwrote {run.folder}/model_final.pth\x1b[0m\n")
    (runs[0].folder / "results.json").write_text('{"ap": 1.0}')
    (runs[0].folder / "model_final.pth").touch()
    destination = tmp_path / "exported"

    written = export_runs(Plan(tmp_path, {run.id: run for run in runs}), destination)

    assert written == [destination / "run" / "seed0"]
    files = {path.name: path for path in destination.rglob("*") if path.is_file()}
    kinds = {"config.yaml", "env.txt", "metrics.json", "log.txt.gz", "results.json"}
    assert set(files) == kinds
    log = gzip.decompress(files["log.txt.gz"].read_bytes()).decode()
    assert log == "wrote <path>/model_final.pth\n"
    assert str(tmp_path) not in files["config.yaml"].read_text()


def test_both_stages_of_a_run_leave_their_metrics(tmp_path: Path) -> None:
    run = Run("run", 0, "x.yaml", (), tmp_path / "run" / "seed0", stages=True)
    for stage in ("stage1_pseudo", "stage2_finetune"):
        (run.folder / stage).mkdir(parents=True)
        (run.folder / stage / "metrics.json").write_text('{"iteration": 0}\n')
    for name in ("config.yaml", "env.txt", "log.txt", "model_final.pth"):
        (run.folder / name).write_text("x")
    (run.folder / "results.json").write_text('{"ap": 1.0}')

    (folder,) = export_runs(Plan(tmp_path, {run.id: run}), tmp_path / "exported")

    found = sorted(x.relative_to(folder).as_posix() for x in folder.rglob("metrics.json"))
    assert found == ["stage1_pseudo/metrics.json", "stage2_finetune/metrics.json"]
