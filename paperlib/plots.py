"""Pictures: one function per figure, from a tidy DataFrame to a matplotlib Figure, and ``save``."""
from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from . import profiles
from .errors import InputError
from .paths import ROOT, atomic, figures_dir
from .runs import Run

# Okabe and Ito's colours, told apart by colour-blind readers
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"
SPLITS = {"val": "validation", "train": "training"}
STYLE = {
    "figure.dpi": 80, "savefig.dpi": 160, "savefig.bbox": None, "font.family": "DejaVu Sans", "font.size": 12,
    "axes.titlesize": 13, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.labelsize": 12,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#E5E5E5",
    "axes.axisbelow": True, "lines.linewidth": 2.2, "legend.frameon": False, "svg.hashsalt": "paperlib",
    "figure.constrained_layout.use": True,
}


def histories(runs: Sequence[Run]) -> pd.DataFrame:
    """All histories under each other, with columns ``method`` (the recipe's label) and ``seed``."""
    return pd.concat([r.history.assign(method=r.recipe.label, seed=r.recipe.seed) for r in runs], ignore_index=True)


def caption(runs: Sequence[Run], profile: str) -> str:
    """What a picture must always say of itself: profile, data, network and number of seeds."""
    recipe, seeds = runs[0].recipe, len({r.recipe.seed for r in runs})
    images = "CIFAR-10" if recipe.data == "cifar10" else "the embedded CIFAR-10 subset"
    return (f"profile {profile}: {recipe.model} x {recipe.width:g}, {recipe.train_images} training and "
            f"{recipe.test_images} test images of {images}, {seeds} seed{'s' if seeds > 1 else ''}")


def end_values(history: pd.DataFrame) -> pd.DataFrame:
    """Loss and accuracy (%) after the last epoch of each stage, by method: mean over seeds and s.d. (one seed: NaN)."""
    stages = history[history.phase != "float"]
    last = stages[stages.epoch == stages.groupby(["phase", "seed"]).epoch.transform("max")]
    last = last[last.split.isin(["train", "val"])]
    table = last.pivot_table(index=["phase", "method"], columns=["metric", "split"], values="value", sort=False,
                             aggfunc=["mean", "std"])
    unit = {"loss": "loss", "accuracy": "accuracy (%)"}
    table.columns = [f"{split} {unit[metric]}{', s.d.' if how == 'std' else ''}"
                     for how, metric, split in table.columns]
    return table.reset_index()


def pact_vs_duq(history: pd.DataFrame, *, bits: int, footnote: str) -> Figure:
    """PROFIT, supplement Fig. 2: training and validation loss by epoch, a panel for each stage.

    ``history`` as :func:`histories` gives it, with phases "activations" and "weights" and the splits "train" and "val".
    Lines are means over seeds, bands their range.
    """
    curves = history[(history.metric == "loss") & (history.epoch > 0) & history.split.isin(SPLITS)]
    curves = curves.assign(split=curves.split.map(SPLITS))
    stages = {"activations": f"activations to {bits} bits", "weights": f"then weights to {bits} bits"}
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(11, 5.6))
        for ax, (phase, title) in zip(axes, stages.items()):
            sns.lineplot(curves[curves.phase == phase], x="epoch", y="value", hue="method", style="split", ax=ax,
                         style_order=SPLITS.values(), markers=["o", "s"], markersize=7, palette=[ORANGE, BLUE],
                         errorbar=("pi", 100))
            ax.set(title=title, yscale="log", xlabel="epoch of the stage", ylabel="cross-entropy loss (nats, log axis)")
            ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
            ax.yaxis.set_major_locator(mpl.ticker.MaxNLocator(8))
            ax.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%.2f"))
            ax.yaxis.set_minor_locator(mpl.ticker.NullLocator())
            handles, labels = ax.get_legend_handles_labels()
            ax.get_legend().remove()
        entries = [(h, text) for h, text in zip(handles, labels) if text not in ("method", "split")]
        figure.legend(*zip(*entries), loc="outside upper center", ncols=4, handlelength=2.6)
        figure.supxlabel(footnote, fontsize=10, color=GREY)
    return figure


def describe_pact_vs_duq(history: pd.DataFrame, *, bits: int) -> str:
    """Alternative text for :func:`pact_vs_duq`, with the end values that the lines reach."""
    ends = "; ".join(f"{row['phase']}, {row['method']}: training {row['train loss']:.2f}, "
                     f"validation {row['val loss']:.2f}" for _, row in end_values(history).iterrows())
    return (f"Two panels of falling loss curves by epoch, on the left while activations are trained at {bits} bits, on "
            f"the right while weights are trained at {bits} bits as well, each with training and validation loss of "
            f"PACT and of DuQ. The curves end at: {ends}.")


def save(figure: Figure, item: str, *, alt: str, data: pd.DataFrame, runs: Sequence[Run], profile: str,
         parameters: dict) -> None:
    """Write figures/<profile>/<item>.png, .svg, .csv and, last, .json with where every number came from.

    ``alt`` says what one sees, for those who cannot; InputError if it is missing.  Equal input gives equal bytes in the
    picture and the table.  Each file is whole or absent.
    """
    if len(alt.split()) < 8:
        raise InputError("alt must describe the picture in a sentence of at least eight words")
    folder = figures_dir(profile)
    with mpl.rc_context(STYLE):
        for suffix, metadata in ((".png", {"Software": None, "Description": alt}),
                                 (".svg", {"Date": None, "Creator": None, "Description": alt})):
            with atomic(folder / f"{item}{suffix}") as temp:
                figure.savefig(temp, metadata=metadata)
    with atomic(folder / f"{item}.csv") as temp:
        data.to_csv(temp, index=False, lineterminator="\n", float_format="%.6g")
    provenance = {
        "item": item, "alt": alt, "caption": caption(runs, profile), "profile": profile,
        "parameters": parameters,
        # shipped figures lie in the very commit that they were drawn by
        **({} if profiles.get(profile).plays else {"git": _revision()}),
        "drawn with": {"python": platform.python_version(), **{p: version(p) for p in ("matplotlib", "pandas")}},
        "runs": [{"run": r.key, "label": r.recipe.label, "seed": r.recipe.seed, "data": r.recipe.data,
                  "train_images": r.recipe.train_images, "test_images": r.recipe.test_images,
                  "seconds": round(r.seconds), "environment": r.environment} for r in runs]}
    with atomic(folder / f"{item}.json") as temp:
        temp.write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")


def _revision() -> str | None:
    """The commit of the code that drew, with "+" where the working tree differs; None outside git."""
    def git(*words):
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "paperlib", "notebooks")
                                                         else "")
    except (OSError, subprocess.CalledProcessError):
        return None
