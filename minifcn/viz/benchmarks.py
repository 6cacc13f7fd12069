"""The figure of the benchmarks: ratios of time or memory."""

from .style import CYCLE, GREY, styled


@styled()
def ratios(rows, title="time or memory, as a multiple of PyTorch's"):
    """Draw the ratio of every row that has one, with its spread, on a logarithmic axis; one colour per group.

    Parameters
    ----------
    rows : sequence of dict
        The keys ``group``, ``case``, ``ratio`` and, optionally, ``ratio_least`` and ``ratio_most``.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.ticker import NullFormatter

    from .page import Figure

    rows = [row for row in rows if row.get("ratio")]
    groups = list(dict.fromkeys(row["group"] for row in rows))
    figure = Figure(figsize=(7.2, 0.2 * len(rows) + 0.3 * len(groups) + 0.9), layout="constrained")
    axes = figure.subplots()
    axes.axvline(1, color="black", lw=1)
    y, ticks = 0.0, []
    for group in groups:
        colour = CYCLE[groups.index(group) % len(CYCLE)]
        axes.text(0.0, y, f" {group}", color=colour, weight="bold", va="center", transform=axes.get_yaxis_transform())
        for row in (row for row in rows if row["group"] == group):
            y += 1
            ticks.append((y, row["case"]))
            axes.plot(
                [row.get("ratio_least", row["ratio"]), row.get("ratio_most", row["ratio"])],
                [y, y],
                color="#c9ccd0",
                lw=4,
            )
            axes.plot(row["ratio"], y, "o", color=colour, ms=6)
            axes.annotate(
                f"{row['ratio']:.2f}", (1.0, y), xycoords=("axes fraction", "data"), va="center", size=8, color=GREY
            )
        y += 1.5
    axes.set_yticks(*zip(*ticks))
    axes.set_ylim(y - 0.5, -0.8)
    axes.set_xscale("log", base=2)
    marks = [m for m in (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4) if axes.get_xlim()[0] <= m <= axes.get_xlim()[1]]
    axes.set_xticks(marks, [f"{m:g}" if m >= 1 else f"1/{1 / m:.0f}" for m in marks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    axes.set_title(title)
    return figure
