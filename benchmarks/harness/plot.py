"""A plot of one result: every sample of every round, ours and theirs, side by side."""

from pathlib import Path

from .comparison import Comparison
from .result import RESULTS, Result

__all__ = ["draw"]

OURS, THEIRS = "#1f6f8b", "#c9772b"


def draw(result: Result, folder: Path = RESULTS) -> Path | None:
    """A PNG beside the results; None where matplotlib is not installed."""
    try:
        import matplotlib  # the group `bench` brings it, and figures do without

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        return None
    count = len(result.comparisons)
    figure, axes = pyplot.subplots(1, count, figsize=(1.5 + 3.2 * count, 4.2), squeeze=False, layout="constrained")
    for axis, comparison in zip(axes[0], result.comparisons, strict=True):
        _panel(axis, comparison)
    versions = ", ".join(f"{name} {result.versions[name]}" for name in ("holdfast", "ray") if name in result.versions)
    quick = " (quick)" if result.quick else ""
    figure.suptitle(f"{result.question.name}{quick}\n{result.machine.cpu}, {result.machine.cores} cores; {versions}",
                    fontsize=9)  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.question.name}{'-quick' if result.quick else ''}.png"
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path


def _panel(axis: object, comparison: Comparison) -> None:
    """A bar for each median, with a dot for each round on it."""
    sides = [("Holdfast", comparison.ours, comparison.median, OURS)]
    if comparison.theirs:
        sides.append((_wrapped(comparison.compared), comparison.theirs, comparison.compared_median or 0, THEIRS))
    for place, (_, samples, median, colour) in enumerate(sides):
        axis.bar(place, median, color=colour, alpha=0.6, width=0.6)  # type: ignore[attr-defined]
        axis.plot([place] * len(samples), samples, "o", color=colour, markersize=4)  # type: ignore[attr-defined]
    axis.set_xticks(range(len(sides)), [name for name, *_ in sides], fontsize=7)  # type: ignore[attr-defined]
    axis.set_ylabel(f"{comparison.figure} ({comparison.unit})", fontsize=8)  # type: ignore[attr-defined]
    axis.set_ylim(bottom=0)  # type: ignore[attr-defined]
    ratio = "" if comparison.ratio is None else f"{comparison.ratio:,.3g} x"
    axis.set_title(" ".join(filter(None, (comparison.of, ratio))), fontsize=9)  # type: ignore[attr-defined]


def _wrapped(text: str, width: int = 18) -> str:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
