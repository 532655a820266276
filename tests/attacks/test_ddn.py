import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import DDN, DeepFool
from tests.attacks.test_deep_fool import zero_net
from tests.support.linear_distances import exact_distances, linear_problem
from tests.support.numpy_net import check_path

CONTRACT = [{"epsilon": 3.0, "steps": 6}]


def reference(steps, gamma=0.05, radius=1.0):
    """DDN (Rony et al. 2019) in plain loops and float64."""

    def points(net, clean, label):
        point, norm = clean.copy(), radius
        widest = np.linalg.norm(np.maximum(clean, 1 - clean))
        for index in range(steps):
            yield point
            slope = net.gradient(point, net.soft_slopes(point, label))
            length = 0.01 + 0.99 * (1 + np.cos(np.pi * index / steps)) / 2
            change = point - clean + length * slope / np.linalg.norm(slope)
            wrong = net.margin(point, label)[0] >= net.least(point)
            norm = min(norm * (1 - gamma if wrong else 1 + gamma), widest)
            change *= norm / np.linalg.norm(change)
            point = np.clip(clean + change, 0, 1)

    return points


class TestDDN:
    def test_takes_the_same_steps_as_in_numpy(self):
        check_path(DDN(steps=15), reference(15))
        changed = {"gamma": 0.2, "initial_norm": 0.5}
        check_path(DDN(steps=15, **changed), reference(15, 0.2, 0.5))

    def test_comes_to_the_exact_distance(self):
        net, images, labels, planes = linear_problem()
        found = DDN(steps=200).search(net, images, labels, seed=0, verbose=0)
        exact = exact_distances(images, planes, "l2")
        assert found.success.all()
        ratios = found.norms / exact
        assert ratios.min() > 1 - 1e-5
        assert ratios.max() < 1.05
        assert np.median(ratios) < 1.02

    def test_reaches_targets(self):
        net, images, labels, planes = linear_problem()
        targets = (labels + 1) % 4
        found = DDN(steps=200, targeted=True).search(
            net, images, target_labels=targets, seed=0, verbose=0
        )
        assert found.success.all()
        assert np.all(net.predict(found.images, verbose=0).argmax(-1) == targets)
        assert np.all(found.norms >= exact_distances(images, planes, "l2") - 1e-5)

    def test_comes_nearer_than_deep_fool(self, trained_net, digits):
        images, labels = digits.x_test[:40], digits.y_test[:40]
        norms = [
            np.median(attack.search(trained_net, images, labels, verbose=0).norms)
            for attack in (DDN(), DeepFool())
        ]
        assert norms[0] < 0.97 * norms[1]

    def test_goes_anywhere_where_a_model_is_flat(self):
        def plateau(images):
            """Changes class only far from the image."""
            far = tf.reduce_sum(tf.square(images - 0.5), [1, 2, 3]) > 0.3
            sign = tf.where(far, 1.0, -1.0) + 0.0 * tf.reduce_sum(images, [1, 2, 3])
            return tf.stack([-sign, sign], axis=1)

        images = np.full((3, 4, 4, 1), 0.5, "float32")
        attack = DDN(steps=20)
        one, again, other = (
            attack.search(plateau, images, [0] * 3, seed=seed, verbose=0)
            for seed in (0, 0, 1)
        )
        assert one.success.all()
        assert np.all(one.norms >= 0.3**0.5 - 1e-5)
        np.testing.assert_array_equal(one.images, again.images)
        assert np.any(one.images != other.images)

    def test_equal_logits_are_left_alone(self, images):
        result = DDN(steps=3)(zero_net(), images, [0] * 6, seed=1)
        np.testing.assert_array_equal(result, images)

    @pytest.mark.parametrize(
        ("name", "value"), [("gamma", 0.0), ("gamma", 1.1), ("initial_norm", 0.0)]
    )
    def test_rejects_what_leads_nowhere(self, name, value):
        with pytest.raises(ValueError, match=f"`DDN` expects `{name}`"):
            DDN(**{name: value})

    def test_has_one_norm(self):
        with pytest.raises(TypeError, match="norm"):
            DDN(norm="linf")
