import numpy as np
import pytest

from keras_advdef.attacks import FAB, FMN
from tests.support.linear_distances import exact_distances, linear_problem
from tests.support.numpy_net import check_path

CONTRACT = [
    {"epsilon": 3.0, "steps": 6, "norm": "l2", "step_size": 0.5, "gamma": 0.1},
    {"epsilon": 40, "steps": 6, "norm": "l0"},
]
_ORDERS = {"linf": (np.inf, 1), "l2": (2, 2), "l1": (1, np.inf), "l0": (0, None)}


def into_ball(change, low, high, radius, norm):
    """The nearest change in both ball and box, by bisection in float64."""
    if norm == "linf":
        return np.clip(np.clip(change, -radius, radius), low, high)
    if norm == "l0":
        kept = np.argsort(-np.abs(change), kind="stable")[: int(radius)]
        few = np.zeros_like(change)
        few[kept] = change[kept]
        return np.clip(few, low, high)

    def cut(share):
        if norm == "l2":
            return np.clip((1 - share) * change, low, high)
        level = share * np.abs(change).max()
        smaller = np.maximum(np.abs(change) - level, 0)
        return np.clip(np.sign(change) * smaller, low, high)

    order = _ORDERS[norm][0]
    below, above = 0.0, 1.0
    if np.linalg.norm(cut(0.0), order) <= radius:
        return cut(0.0)
    for _ in range(60):
        middle = (below + above) / 2
        fits = np.linalg.norm(cut(middle), order) <= radius
        below, above = (below, middle) if fits else (middle, above)
    return cut(above)


def reference(steps, norm, gamma=0.05, step_size=None):
    """FMN (Pintor et al. 2021) in plain loops and float64."""
    order, dual = _ORDERS[norm]
    step_size = step_size or (10.0 if norm == "linf" else 1.0)

    def points(net, clean, label):
        point, radius, nearest = clean.copy(), np.inf, np.inf
        radius = 1.0 if norm == "l0" else np.inf
        widest = np.linalg.norm(np.maximum(clean, 1 - clean), order)
        for index in range(steps):
            yield point
            share = (1 + np.cos(np.pi * index / steps)) / 2
            slope = net.gradient(point, net.soft_slopes(point, label))
            margin, least = net.margin(point, label)[0], net.least(point)
            size = np.linalg.norm(point - clean, order)
            wrong = margin >= least
            nearest = min(nearest, size) if wrong else nearest
            now = gamma * (0.02 + 0.98 * share)
            if norm == "l0" and wrong:
                radius = min(radius - 1, np.floor(radius * (1 - now)), nearest)
            elif norm == "l0":
                radius = max(radius + 1, np.floor(radius * (1 + now)))
            elif wrong:
                radius = min((1 - now) * radius, nearest)
            elif nearest < np.inf:
                radius = (1 + now) * radius
            else:
                way = (2 * least - margin) / np.linalg.norm(slope, dual)
                radius = size + way
            radius = max(min(radius, widest), 0)
            length = step_size * (0.01 + 0.99 * share)
            change = point + length * slope / np.linalg.norm(slope) - clean
            point = clean + into_ball(change, -clean, 1 - clean, radius, norm)

    return points


class TestFMN:
    @pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
    def test_takes_the_same_steps_as_in_numpy(self, norm):
        check_path(FMN(norm=norm, steps=15), reference(15, norm), atol=1e-4)

    def test_arguments_change_the_steps_as_in_numpy(self):
        attack = FMN(norm="l2", steps=10, gamma=0.3, step_size=0.2)
        check_path(attack, reference(10, "l2", 0.3, 0.2), atol=1e-4)

    @pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
    def test_comes_to_the_exact_distance(self, norm):
        net, images, labels, planes = linear_problem()
        found = FMN(norm=norm, steps=200).search(net, images, labels, verbose=0)
        exact = exact_distances(images, planes, norm)
        assert found.success.all()
        if norm == "l0":
            assert np.all(found.norms >= exact)
            assert np.mean(found.norms - exact) < 0.5
            return
        ratios = found.norms / exact
        assert ratios.min() > 1 - 1e-5
        assert np.median(ratios) < 1.01
        assert ratios.max() < 1.05

    def test_reaches_targets(self):
        net, images, labels, _ = linear_problem()
        targets = (labels + 1) % 4
        found = FMN(norm="l2", targeted=True).search(
            net, images, target_labels=targets, verbose=0
        )
        assert found.success.all()
        assert np.all(net.predict(found.images, verbose=0).argmax(-1) == targets)

    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_comes_about_as_near_as_fab(self, norm, trained_net, digits):
        images, labels = digits.x_test[:40], digits.y_test[:40]
        norms = [
            np.median(attack.search(trained_net, images, labels, verbose=0).norms)
            for attack in (FMN(norm=norm, steps=60), FAB(norm=norm, steps=30))
        ]
        assert norms[0] < 1.01 * norms[1]

    def test_unchanged_values_are_the_same_in_any_range(self, trained_net, digits):
        def wide(images):
            return trained_net(images / 255)

        images, labels = 255 * digits.x_test[:10], digits.y_test[:10]
        attack = FMN(norm="l0", steps=40, value_range=(0, 255))
        found = attack.search(wide, images, labels, verbose=0)
        assert found.success.all()
        changes = np.sum(found.images != images, axis=(1, 2, 3))
        np.testing.assert_array_equal(found.norms, changes)
        assert changes.max() < 40
        # A count does not depend on the range.
        fewest = int(np.median(changes))
        bounded = attack.search(wide, images, labels, epsilon=fewest, verbose=0)
        np.testing.assert_array_equal(bounded.success, changes <= fewest)

    @pytest.mark.parametrize(
        ("name", "value"), [("gamma", 0.0), ("gamma", 1.1), ("step_size", 0.0)]
    )
    def test_rejects_what_leads_nowhere(self, name, value):
        with pytest.raises(ValueError, match=f"`FMN` expects `{name}`"):
            FMN(**{name: value})
