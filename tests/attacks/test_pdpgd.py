import numpy as np
import pytest
import scipy.optimize

from keras_advdef.attacks import PDPGD
from tests.support.linear_distances import exact_distances, linear_problem
from tests.support.numpy_net import check_path

CONTRACT = [
    {"epsilon": 0.4, "steps": 6, "learning_rate": 0.2},
    {"epsilon": 15.0, "steps": 6, "norm": "l1", "learning_rate": 0.2},
]


def proximal(change, amount, weights, norm):
    """Minimizes `amount * norm(z) + sum(weights * (z - change)^2) / 2`; float64."""
    if norm == "l1":
        smaller = np.maximum(np.abs(change) - amount / weights, 0)
        return np.sign(change) * smaller

    def excess(level):
        return weights @ np.maximum(np.abs(change) - level, 0) - amount

    if excess(0.0) <= 0:
        return np.zeros_like(change)
    level = scipy.optimize.brentq(excess, 0.0, np.abs(change).max())
    return np.clip(change, -level, level)


def reference(steps, norm, rate=0.1):
    """PDPGD (Matyasko and Chau 2021) in plain loops and float64."""

    def points(net, clean, label):
        change, mean, square = np.zeros((3, len(clean)))
        dual = np.array([0.0, -np.log(0.01)])
        weights = np.exp(dual) / np.exp(dual).sum()
        for index in range(steps):
            point = clean + change
            yield point
            margin, slopes = net.margin(point, label)
            steepness = 1 / (1 + np.exp(margin)) if margin < 0 else 0.0
            gradient = -steepness * net.gradient(point, slopes)
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            size = np.sqrt(square / (1 - 0.999 ** (index + 1))) + 1e-8
            now = rate * 0.01 ** (index / steps)
            change = change - now * mean / (1 - 0.9 ** (index + 1)) / size
            change = np.clip(clean + change, 0, 1) - clean
            amount = now * weights[0] / weights[1]
            change = proximal(change, amount, size, norm)
            left = (steps - 1 - index) / (steps - 1)
            theta = 0.1 * (left * 0.9 + 0.1)
            wrong = margin >= net.least(point)
            dual[1] += -theta if wrong else theta
            fresh = np.exp(dual) / np.exp(dual).sum()
            weights = 0.9 * weights + 0.1 * fresh

    return points


class TestPDPGD:
    @pytest.mark.parametrize("norm", ["linf", "l1"])
    def test_takes_the_same_steps_as_in_numpy(self, norm):
        check_path(PDPGD(norm=norm, steps=40), reference(40, norm), atol=1e-3)
        attack = PDPGD(norm=norm, steps=20, learning_rate=0.3)
        check_path(attack, reference(20, norm, 0.3), atol=1e-3)

    @pytest.mark.parametrize("norm", ["linf", "l1"])
    def test_comes_to_the_exact_distance(self, norm):
        net, images, labels, planes = linear_problem()
        found = PDPGD(norm=norm).search(net, images, labels, verbose=0)
        exact = exact_distances(images, planes, norm)
        assert found.success.all()
        ratios = found.norms / exact
        assert ratios.min() > 1 - 1e-5
        assert np.median(ratios) < 1.05

    def test_reaches_targets(self):
        net, images, labels, _ = linear_problem()
        targets = (labels + 1) % 4
        found = PDPGD(steps=200, targeted=True).search(
            net, images, target_labels=targets, verbose=0
        )
        assert found.success.all()
        assert np.all(net.predict(found.images, verbose=0).argmax(-1) == targets)

    def test_one_step_looks_at_the_image_alone(self):
        net, images, labels, _ = linear_problem()
        found = PDPGD(steps=1).search(net, images, labels, verbose=0)
        assert not found.success.any()
        wrong = PDPGD(steps=1).search(net, images, (labels + 1) % 4, verbose=0)
        np.testing.assert_array_equal(wrong.norms, np.zeros(6))

    def test_has_two_norms(self):
        with pytest.raises(ValueError, match="`PDPGD` expects `norm`"):
            PDPGD(norm="l2")

    def test_rejects_what_leads_nowhere(self):
        with pytest.raises(ValueError, match="`PDPGD` expects `learning_rate`"):
            PDPGD(learning_rate=0.0)
