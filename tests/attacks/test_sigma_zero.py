import numpy as np
import pytest

from keras_advdef.attacks import JSMA, SigmaZero
from tests.support.linear_distances import exact_distances, linear_problem
from tests.support.numpy_net import check_path

CONTRACT = [{"epsilon": 40, "steps": 8, "threshold": 0.2, "learning_rate": 0.5}]


def reference(steps, rate=1.0, sigma=1e-3, threshold=0.3):
    """Sigma-zero (Cinà et al. 2025) in plain loops and float64."""

    def points(net, clean, label):
        change, mean, square = np.zeros((3, len(clean)))
        level, now = threshold, rate
        for index in range(steps):
            point = clean + change
            yield point
            margin, slopes = net.margin(point, label)
            gradient = -net.gradient(point, slopes) if margin < 0 else 0.0
            smooth = 2 * sigma * change / (change**2 + sigma) ** 2
            gradient = gradient + smooth / len(clean)
            gradient = gradient / max(np.abs(gradient).max(), 1e-12)
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            size = np.sqrt(square / (1 - 0.999 ** (index + 1))) + 1e-8
            change = change - now * mean / (1 - 0.9 ** (index + 1)) / size
            change = np.clip(clean + change, 0, 1) - clean
            now = rate * (0.1 + 0.9 * (1 + np.cos(np.pi * index / steps)) / 2)
            wrong = margin >= net.least(point)
            level = np.clip(level + 0.01 * (now if wrong else -now), 0, 1)
            change[np.abs(change) < level] = 0

    return points


class TestSigmaZero:
    def test_takes_the_same_steps_as_in_numpy(self):
        # Beyond some steps, rounding decides which values stay.
        check_path(SigmaZero(steps=12), reference(12), atol=1e-4)
        changed = {"learning_rate": 0.4, "sigma": 0.01, "threshold": 0.1}
        attack = SigmaZero(steps=12, **changed)
        check_path(attack, reference(12, 0.4, 0.01, 0.1), atol=1e-4)

    def test_comes_to_the_exact_count(self):
        net, images, labels, planes = linear_problem()
        found = SigmaZero(steps=300).search(net, images, labels, verbose=0)
        exact = exact_distances(images, planes, "l0")
        assert found.success.all()
        assert np.all(found.norms >= exact)
        assert np.mean(found.norms - exact) < 0.5

    def test_changes_fewer_values_than_jsma(self, trained_net, digits):
        images, labels = digits.x_test[:30], digits.y_test[:30]
        found, pairs = (
            attack.search(trained_net, images, labels, verbose=0)
            for attack in (SigmaZero(steps=100), JSMA(gamma=1.0))
        )
        assert found.success.all()
        changes = np.sum(found.images != images, axis=(1, 2, 3))
        np.testing.assert_array_equal(found.norms, changes)
        assert np.median(found.norms) < np.median(pairs.norms)

    def test_epsilon_is_a_count(self, trained_net, digits):
        images, labels = digits.x_test[:20], digits.y_test[:20]
        attack = SigmaZero(steps=60)
        free = attack.search(trained_net, images, labels, verbose=0)
        fewest = int(np.median(free.norms))
        bounded = attack.search(trained_net, images, labels, epsilon=fewest, verbose=0)
        np.testing.assert_array_equal(bounded.success, free.norms <= fewest)

    def test_reaches_targets(self):
        net, images, labels, _ = linear_problem()
        targets = (labels + 1) % 4
        found = SigmaZero(steps=100, targeted=True).search(
            net, images, target_labels=targets, verbose=0
        )
        assert found.success.all()
        assert np.all(net.predict(found.images, verbose=0).argmax(-1) == targets)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("learning_rate", 0.0), ("sigma", 0.0), ("threshold", -0.1)],
    )
    def test_rejects_what_leads_nowhere(self, name, value):
        with pytest.raises(ValueError, match=f"`SigmaZero` expects `{name}`"):
            SigmaZero(**{name: value})
