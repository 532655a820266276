"""The pictures of a hardened model."""

from typing import TYPE_CHECKING, Any

import numpy as np

from keras_advdef.core.model_inputs import add_channels
from keras_advdef.evaluation.draw_curve import draw_curve, plain_text

if TYPE_CHECKING:
    from keras_advdef.recipes.hardened_model import HardenedModel

_CURVES = {
    "val_accuracy": ("clean", "C0"),
    "val_adversarial_accuracy": ("attacked", "C1"),
    "adversarial_accuracy": ("attacked, training images", "0.6"),
}
_STYLES = {"before": ("C3", "o", "--"), "after": ("C0", "s", "-")}


def training_figure(hardened: "HardenedModel") -> Any:
    """Returns a matplotlib figure: accuracy by epoch, and against epsilon.

    Args:
        hardened: The hardened model.
    """
    # Unlike pyplot, this leaves the user's matplotlib backend alone.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.0), layout="constrained")
    epochs, epsilons = figure.subplots(1, 2, sharey=True)
    _draw_epochs(epochs, hardened)
    for name, report in (("before", hardened.before), ("after", hardened.after)):
        color, marker, line = _STYLES[name]
        draw_curve(
            epsilons,
            report.data["curve"],
            color=color,
            marker=marker,
            linestyle=line,
            label=name,
        )
    epsilon = hardened.facts["epsilon"]
    epsilons.axvline(epsilon, color="0.4", linestyle=":", linewidth=1)
    epsilons.set(
        title="before and after, 95 % intervals",
        xlabel=plain_text(f"epsilon ({hardened.facts['norm']})"),
        ylim=(0, 100),
        xlim=(0, None),
    )
    for axes in (epochs, epsilons):
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def _draw_epochs(axes: Any, hardened: "HardenedModel") -> None:
    for name, (label, color) in _CURVES.items():
        values = hardened.history.get(name)
        if values:
            percents = 100.0 * np.asarray(values)
            axes.plot(np.arange(1, len(values) + 1), percents, color=color, label=label)
    best = hardened.facts["best_epoch"] + 1
    axes.axvline(best, color="0.4", linestyle="--", linewidth=1, label="best epoch")
    axes.set(
        title="training",
        xlabel="epoch",
        ylabel="accuracy (%)",
        xlim=(1, max(2, len(hardened.history.get("loss", ())))),
    )


def epsilon_figure(example: np.ndarray, epsilon_text: str) -> Any:
    """Returns a matplotlib figure: images, attacked at epsilon, and what changed.

    Args:
        example: Images in `[0, 1]`, clean and attacked, `(2, count, rows, cols, ...)`.
        epsilon_text: Epsilon as people write it.
    """
    from matplotlib.figure import Figure

    clean, attacked = (add_channels(each) for each in example)
    change = attacked - clean
    largest = max(float(np.abs(change).max()), 1e-12)
    rows = {
        "clean": clean,
        plain_text(f"attacked: {epsilon_text}"): attacked,
        f"what changed, x {0.5 / largest:.3g}": 0.5 + 0.5 * change / largest,
    }
    figure = Figure(figsize=(1.6 * len(clean) + 0.4, 5.4), layout="constrained")
    grid = figure.subplots(3, len(clean), squeeze=False)
    for axes, (title, images) in zip(grid, rows.items(), strict=True):
        for each, image in zip(axes, images, strict=True):
            shown = image[..., 0] if image.shape[-1] == 1 else image
            each.imshow(np.clip(shown, 0.0, 1.0), cmap="gray", vmin=0.0, vmax=1.0)
            each.set_axis_off()
        axes[0].set_title(title, loc="left", fontsize=9)
    return figure
