from __future__ import annotations

from distill.deploy.analysis import Cost, Costs, LayerCost, format_costs

CONV = LayerCost("backbone.conv", "backbone", "1-bit convolutions", Cost(16_000_000, 0, 64_000_000))
FC = LayerCost("head.fc", "head", "real fully connected layers", Cost(0, 2_000_000, 0, 9_000_000))


def test_tables_show_parts_kinds_and_shares():
    lines = [line.split() for line in format_costs(Costs((CONV, FC))).splitlines()]
    assert ["backbone", *"16.000 0.000 2.00 20.0 % 0.001 10.0 %".split()] in lines
    assert ["head", *"0.000 2.000 8.00 80.0 % 0.009 90.0 %".split()] in lines
    assert lines.count(["total", *"16.000 2.000 10.00 100.0 % 0.010 100.0 %".split()]) == 2
    assert ["1-bit", "convolutions", *"16.000 0.000 2.00 20.0 % 0.001 10.0 %".split()] in lines


def test_the_last_line_says_where_the_size_is():
    assert format_costs(Costs((CONV, FC))).splitlines()[-1] == (
        "80.0 % of the size is real fully connected layers. The largest layer is head.fc: 8.00 MB, "
        "80.0 %."
    )


def test_what_did_not_run_is_named():
    report = format_costs(Costs((CONV, FC), uncounted=("mask_head.conv",)))
    assert report.splitlines()[-1] == "Not counted, since it did not run: mask_head.conv."
