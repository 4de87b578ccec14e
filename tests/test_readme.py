"""What the README says of the results is what the recorded runs say."""
import json
import re

import pandas as pd

from paperlib import notebooks, shelf
from paperlib.paths import ROOT, recorded_dir

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


def test_the_summary_counts_as_the_scoreboard_does():
    counts = pd.read_csv(FIGURES / "scoreboard.csv").verdict.value_counts()
    told = re.search(r"Of (\d+) claims of the two papers (\d+) are reproduced .*, (\d+) are not, and (\d+) cannot be "
                     r"tested", README)
    assert [int(n) for n in told.groups()] == [counts.sum(), *(counts[v] for v in (
        "reproduced", "not reproduced", "not testable at this scale"))]


def test_what_it_took_is_what_the_runs_say():
    runs = shelf.index()
    number, hours = map(int, re.search(r"(\d+) recorded runs; one by one they would take (\d+) hours", README).groups())
    assert number == len(runs) and abs(hours - runs.minutes.sum() / 60) <= 0.5
    machines = [json.loads((recorded_dir() / run / "run.json").read_text(encoding="utf-8"))["environment"]
                for run in runs.run]
    assert ("without a GPU" in README) == all(machine["gpu"] is None for machine in machines)


def test_every_link_of_the_readme_leads_to_a_file():
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)", README) + re.findall(r'src="([^"]+)"', README)
    assert len(targets) > 40
    assert [t for t in targets if not (ROOT / t).exists()] == []
    assert (recorded_dir() / shelf.INDEX).exists()
