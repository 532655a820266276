"""The report of a demo as JSON values."""

from typing import Any

from keras_advdef.cli.demo._run import DemoRun
from keras_advdef.core.versions import versions


def _data(run: DemoRun) -> dict[str, Any]:
    dataset = run.dataset
    return {
        "name": dataset.name,
        "classes": dataset.classes,
        "image_shape": list(dataset.x_train.shape[1:]),
        "train_images": len(dataset.x_train),
        "test_images": len(dataset.x_test),
    }


def _accuracies(run: DemoRun, name: str) -> dict[str, Any]:
    return {
        "clean": run.clean(name).to_json(),
        "adversarial": {"attack": str(run.attack), **run.adversarial(name).to_json()},
    }


def _curve(run: DemoRun) -> dict[str, Any]:
    points = {
        name: [estimate.to_json() for estimate in estimates]
        for name, estimates in run.curves.items()
    }
    return {"epsilons": run.epsilons, **points}


def demo_report(run: DemoRun) -> dict[str, Any]:
    """Returns the report of a demo.

    Args:
        run: The run to report.

    Returns:
        A dictionary for `json.dumps`: the results, the budget, and the command that
        repeats the run.
    """
    budget = run.budget
    return {
        "headline": run.headline,
        "command": run.flags.command(epsilon=budget.epsilon, epochs=budget.epochs),
        "seed": run.flags.seed,
        "data": _data(run),
        "budget": {
            "epochs": budget.epochs,
            "train_images": budget.train_images,
            "test_images": budget.test_images,
            "attack": run.attack.get_config(),
        },
        "epsilon": budget.epsilon,
        "norm": "linf",
        "undefended": _accuracies(run, "undefended"),
        "defended": _accuracies(run, "defended"),
        "interval_method": "clopper-pearson",
        "confidence_level": 0.95,
        "curve": _curve(run),
        "versions": versions(),
        "run": {
            "started": run.started.isoformat(timespec="seconds"),
            "seconds": {name: round(took, 2) for name, took in run.seconds.items()},
        },
    }
