"""What the README says of the results is what the recorded runs say."""
import json
import re

import pandas as pd
import pytest

from paperlib import runs
from paperlib.claims import (
    NOT_RECORDED,
    contents,
    notebooks,
    scoreboard,
)
from paperlib.claims.verdict import CLAIM, VERDICTS
from paperlib.runs import recorded
from paperlib.system.paths import ROOT, recorded_dir

README = (ROOT / "README.md").read_text(encoding="utf-8")
FIGURES = ROOT / "figures" / "recorded"
GALLERY = re.findall(r'^\| \[[^\]]+\]\(notebooks/(\w+)\.ipynb\) \| '
                     r'<img src="figures/recorded/(\w+)\.png" width="260" alt="([^"]+)"> \| (.+) \|$', README, re.M)


def test_the_gallery_has_every_figure_once_with_its_notebook():
    assert sorted(figure for _, figure, *_ in GALLERY) == sorted(file.stem for file in FIGURES.glob("*.png"))
    for notebook, figure, alt, finding in GALLERY:
        assert notebook == notebooks.of_figure(figure)
        drawn = json.loads((FIGURES / f"{figure}.json").read_text(encoding="utf-8"))["alt"]
        assert f"{drawn} ".replace('"', "'").startswith(f"{alt} "), f"sentences of the figure's own: {drawn[:200]}"
        assert len(finding.split()) >= 4


@pytest.mark.slow
def test_the_summary_counts_as_the_scoreboard_does(recorded):
    table = scoreboard.table(recorded)
    counts = table[table.kind == CLAIM].verdict.value_counts()
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if verdict in counts)
    assert f"judges {counts.sum()} claims of the two papers by the runs in `data/recorded/`: {told}." in README


def test_decided_claims_are_the_scoreboards():
    assert scoreboard.decided(pd.read_csv(FIGURES / "scoreboard.csv")) in README


@pytest.mark.slow
def test_effects_in_the_summary_are_the_scoreboards():
    """Each "+0.36 [+0.30, +0.42], n = 3" is one of the file's, claim and all."""
    ours = set(pd.read_csv(FIGURES / "scoreboard.csv").ours.dropna())
    summary = README[README.index("Our conclusions"):README.index("The claims that are decided")]
    told = re.findall(r"[+-][\d.]+(?: \[[^]]+\])?, n = \d+", summary)
    assert len(told) >= 4 and set(told) <= ours, set(told) - ours


@pytest.mark.slow
def test_what_it_took_is_what_the_runs_say():
    runs = recorded.index()
    told = f"{len(runs)} recorded runs; one by one they would take {runs.minutes.sum() / 60:.0f} hours"
    assert told in README
    machines = [json.loads((recorded_dir() / run / "run.json").read_text(encoding="utf-8"))["environment"]
                for run in runs.run]
    assert ("without a GPU" in README) == all(machine["gpu"] is None for machine in machines)


@pytest.mark.parametrize("item", contents.names())
def test_the_gallery_says_what_is_not_recorded_yet(item):
    missing = any(not runs.is_recorded(recipe) for recipe, _ in contents.needed("recorded", item, 1))
    told = any(NOT_RECORDED in finding.lower() for notebook, *_, finding in GALLERY if notebook == item)
    assert missing == told, f"runs of {item} are missing: {missing}; its rows of README's gallery say so: {told}"


def test_every_link_of_the_readme_leads_to_a_file():
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)", README) + re.findall(r'src="([^"]+)"', README)
    assert len(targets) > 40
    assert [t for t in targets if not (ROOT / t).exists()] == []
    assert (recorded_dir() / recorded.INDEX).exists()


def test_the_tables_of_speed_are_the_benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import steps_table
    assert steps_table.markdown(pd.read_csv(steps_table.STEPS)) in README
    times = pd.read_csv(ROOT / "benchmarks" / "deploy.csv").set_index(["variant", "network"])["ms at 1"]
    for row, variants in (("ONNX Runtime float", ("ONNX Runtime float, threads: 1", "ONNX Runtime float, threads: 2")),
                          ("ONNX Runtime, 4-bit network on 8-bit carriers",
                           ("ONNX Runtime int8, threads: 1", "ONNX Runtime int8, threads: 2")),
                          ("C file, one thread, integers alone", ("C file",))):
        cells = (" / ".join(f"{times[variant, network]:.2f}" for variant in variants)
                 for network in ("mobilenet_v2", "mobilenet_v3_large"))
        assert f"| {row} | {' | '.join(cells)} |" in README
