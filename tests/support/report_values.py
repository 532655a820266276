"""The values of a small `report.json`."""


def _estimate(correct, low, high):
    return {"accuracy": correct / 10, "interval": [low, high], "count": 10}


def judgements():
    """What a report on a random model holds besides."""
    each = dict.fromkeys(("mean", "worst", "majority"), _estimate(2, 0.02, 0.56))
    return {"draws": 10, "evaluations": [0.3] * 10, **each}


def several_norms():
    """What a report on two norms holds besides."""
    under = {
        "clean": _estimate(9, 0.55, 1.0),
        "headline": "Accuracy under c",
        "masking_suspected": False,
        "failed_checks": [],
        "attacks": [
            {"name": "PGD-20", "role": "naive", "images": 10, "accuracy_after": 0.5}
        ],
    }
    linf = {**_estimate(3, 0.07, 0.65), "attacks": ["PGD-20"]}
    l2 = {**_estimate(1, 0.0, 0.45), "attacks": ["PGD-20"]}
    failed = {"masking_suspected": True, "failed_checks": ["more_steps", "no_detector"]}
    return {
        "norms": [
            {**under, "norm": "linf", "epsilon": 0.1, "adaptive": linf},
            {**under, "norm": "l2", "epsilon": 0.5, "adaptive": l2, **failed},
        ],
        "union": {**_estimate(0, 0.0, 0.31), "finding": "Accuracy is left | in linf."},
    }


def small_report():
    """A report with a reference and without randomness."""
    clean, naive, adaptive = (
        _estimate(9, 0.55, 1.0),
        _estimate(5, 0.19, 0.81),
        _estimate(3, 0.07, 0.65),
    )
    return {
        "headline": "Accuracy under a | b",
        "masking_suspected": True,
        "clean": {**clean, "attacks": []},
        "naive": {**naive, "attacks": ["PGD-20"]},
        "adaptive": {**adaptive, "attacks": ["PGD-20", "Square-200"]},
        "checks": [
            {"name": "more_steps", "passed": True, "detail": "3 and 3."},
            {"name": "input_gradients", "passed": False, "detail": "90 %."},
            {"name": "transfer_vs_white_box", "passed": None, "detail": "Not run."},
        ],
        "curve": [{"epsilon": 0.0, **clean}, {"epsilon": 0.1, **adaptive}],
        "per_class": [{"class": 7, "count": 10, "clean": clean, "adaptive": adaptive}],
        "attacks": [
            {
                "key": "naive",
                "name": "PGD-20",
                "role": "naive",
                "images": 9,
                "accuracy_after": 0.5,
            },
            {
                "key": "check-black-box",
                "name": "Square-200",
                "role": "check",
                "images": 9,
                "accuracy_after": 0.4,
            },
            {
                "key": "check-iterative",
                "name": "PGD-20",
                "role": "check",
                "images": 9,
                "accuracy_after": 0.3,
            },
        ],
        "reference": {
            "clean": {**clean, "attacks": []},
            "adaptive": {**_estimate(0, 0.0, 0.31), "attacks": ["PGD-20", "APGD-25"]},
            "curve": [{"epsilon": 0.0, **clean}, {"epsilon": 0.1, **naive}],
        },
        "class_names": [f"number {each}" for each in range(8)],
        "is_robust_accuracy": False,
        "skipped": [{"attack": "transfer", "reason": "no surrogate given"}],
        "defences": ["RandomNoise"],
        "duties": {
            "architecture": {"layers_added": 2, "parameters_added": None},
            "clean_accuracy_change": {"difference": -0.1, "interval": [-0.25, 0.05]},
            "small_epsilons": [{"epsilon": 0.05, **naive}],
            "smallest_perturbation": {"median": 0.0123, "count": 8, "attack": "FAB-20"},
        },
        "images": {"evaluated": 10, "given": 12},
        "seed": 3,
        "epsilon": 0.1,
        "norm": "linf",
        "value_range": [0.0, 1.0],
        "budget": "quick",
        "versions": {"keras": "3", "numpy": "2"},
        "run": {
            "command": "python run.py",
            "model": {"name": "net.keras", "parameters": 1200},
            "reference": {"name": "plain.keras", "parameters": None},
            "data": {"name": "the digits", "shape": [8, 8, 1]},
            "started": "2026-01-01T00:00:00+00:00",
            "seconds": 12.3,
            "inference": {"inference_time_ratio": 1.25},
        },
    }


def corruptions():
    """What a report with corruptions holds under their name."""
    severities = [
        {"severity": 1, **_estimate(8, 0.44, 0.97)},
        {"severity": 5, **_estimate(2, 0.03, 0.56)},
    ]
    mean = _estimate(5, 0.19, 0.81)
    return {
        "clean": _estimate(9, 0.55, 1.0),
        "mean": mean,
        "corruptions": [
            {"name": name, "mean": mean, "severities": severities}
            for name in ("gaussian_noise", "fog")
        ],
        "seed": 3,
    }
