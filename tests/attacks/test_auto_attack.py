import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import APGD, FAB, Attack, AutoAttack, Square, auto_attack
from keras_advdef.attacks._early_stopping import run_slots
from keras_advdef.core.random_state import scope_key
from keras_advdef.layers import RandomNoise
from tests.attacks.test_gradient_attack import NEAREST, POINT
from tests.support.check_attack import inside
from tests.support.nets import linear_net, small_net

CONTRACT = [{"epsilon": 0.1, "steps": 4, "queries": 5}]

pytestmark = pytest.mark.filterwarnings("ignore:The targeted DLR needs 4 classes")


class TestAutoAttack:
    @pytest.mark.parametrize("norm", ["linf", "l2"])
    def test_standard_order_and_parameters(self, norm):
        attack = AutoAttack(0.1, norm=norm)
        kinds = [APGD, APGD, FAB, Square]
        assert [type(each) for each in attack.attacks] == kinds
        first, aimed, fab, square = attack.attacks
        assert (first.loss, first.steps, first.restarts) == ("cross_entropy", 100, 1)
        assert [aimed.runs(classes) for classes in (10, 4, 100)] == [9, 3, 9]
        assert [fab.runs(classes) for classes in (10, 4, 100)] == [9, 3, 9]
        assert square.queries == 5000

    def test_l1_has_more_restarts_and_fewer_targets(self):
        attack = AutoAttack(10.0, norm="l1")
        assert [type(each) for each in attack.attacks] == [APGD, APGD, FAB, Square]
        assert attack.attacks[0].restarts == 5
        assert attack.attacks[1].runs(10) == 25
        assert attack.attacks[2].runs(10) == 5

    def test_other_versions(self):
        plus = AutoAttack(0.1, version="plus").attacks
        kinds = [APGD, APGD, FAB, Square, APGD, FAB]
        assert [type(each) for each in plus] == kinds
        assert [plus[index].restarts for index in range(3)] == [5, 5, 5]
        rand = AutoAttack(0.1, version="rand").attacks
        assert [(each.loss, each.eot_samples) for each in rand] == [
            ("cross_entropy", 20),
            ("dlr", 20),
        ]

    @pytest.mark.parametrize("norm", ["linf", "l2"])
    def test_fast_has_fewer_targets_steps_and_queries(self, norm):
        attack = AutoAttack(0.1, norm=norm, version="fast")
        assert [type(each) for each in attack.attacks] == [APGD, APGD, FAB, Square]
        first, aimed, fab, square = attack.attacks
        assert (first.loss, first.steps, first.restarts) == ("cross_entropy", 100, 1)
        assert (aimed.loss.norm, aimed.steps) == (norm, 100)
        assert [aimed.runs(classes) for classes in (10, 4, 100)] == [3, 3, 3]
        assert (fab.steps, fab.runs(10), fab.candidates) == (50, 1, 3)
        assert square.queries == 1000

    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_fast_passes_are_less_than_0_3_of_the_standard_ones(self, norm):
        standard, fast = (
            sum(AutoAttack(0.1, norm=norm, version=version).passes(10))
            for version in ("standard", "fast")
        )
        assert fast < 0.3 * standard

    def test_fast_breaks_what_the_standard_breaks(self, trained_net, digits):
        x, y = digits.x_test[:100], digits.y_test[:100]
        broken = []
        for version in ("standard", "fast"):
            attack = AutoAttack(0.08, version=version, steps=15, queries=60)
            found = attack.generate(trained_net, x, y, seed=0, verbose=0)
            broken.append(attack.predict(trained_net, found) != y)
            assert inside(found, x, 0.08, "linf")
        assert 0 < broken[1].sum() < len(y)
        np.testing.assert_array_equal(*broken)

    @pytest.mark.parametrize(
        ("version", "norm"),
        [
            ("standard", "linf"),
            ("standard", "l2"),
            ("standard", "l1"),
            ("fast", "linf"),
            ("fast", "l1"),
        ],
    )
    def test_exact_on_a_linear_model(self, version, norm):
        net = linear_net(np.eye(2), np.zeros(2))
        attack = AutoAttack(norm=norm, version=version, steps=30, queries=50)
        for factor, broken in ((0.995, False), (1.01, True)):
            found = attack.generate(
                net, POINT, [0], epsilon=factor * NEAREST[norm], seed=0, verbose=0
            )
            assert (np.argmax(net(found)) != 0) == broken
            assert broken or np.array_equal(found, POINT)

    def test_never_weaker_than_a_member_and_returns_clean_what_it_leaves(
        self, trained_net, digits
    ):
        x, y = digits.x_test, digits.y_test
        attack = AutoAttack(0.08, steps=15, queries=60)
        found = attack.generate(trained_net, x, y, seed=0, batch_size=64, verbose=0)
        left = attack.predict(trained_net, found) == y
        assert inside(found, x, 0.08, "linf")
        np.testing.assert_array_equal(found[left], x[left])
        wrong = attack.predict(trained_net, x) != y
        np.testing.assert_array_equal(found[wrong], x[wrong])
        alone = APGD(0.08, steps=15).generate(trained_net, x, y, seed=0, verbose=0)
        assert 0 < left.sum() <= (attack.predict(trained_net, alone) == y).sum() + 1

    def test_later_attacks_see_only_what_is_left(
        self, trained_net, digits, monkeypatch
    ):
        x, y = digits.x_test[:60], digits.y_test[:60]
        attack, seen = AutoAttack(0.1, steps=10, queries=20), []

        def watched(member, job, epsilon):
            run_slots(member, job, epsilon)
            seen.append((job.count, int(job.broken.sum())))

        monkeypatch.setattr(auto_attack, "run_slots", watched)
        attack.generate(trained_net, x, y, seed=0, verbose=0)
        counts = [count for count, _ in seen]
        assert counts[1:] == [count - broken for count, broken in seen[:-1]]
        assert counts[0] > counts[-1]

    def test_random_models_are_asked_on_fresh_draws(self, digits, trained_net):
        noisy = small_net(front=[RandomNoise(0.05)])
        for layer, trained in zip(noisy.layers[1:], trained_net.layers, strict=True):
            layer.set_weights(trained.get_weights())
        x, y = digits.x_test[:24], digits.y_test[:24]
        attack = AutoAttack(0.08, version="rand", steps=6)
        found = attack.generate(noisy, x, y, seed=0, verbose=0)
        changed = np.any(found != x, axis=(1, 2, 3))
        assert changed.any()
        votes = [attack.predict(noisy, found, seed=seed) != y for seed in range(20)]
        assert np.mean(np.array(votes)[:, changed]) > 0.6

    def test_bfloat16_breaks_the_same_images(self, trained_net, digits):
        x, y = digits.x_test[:100], digits.y_test[:100]
        left = []
        for precision in ("float32", "bfloat16"):
            attack = AutoAttack(0.08, steps=10, queries=20, precision=precision)
            found = attack.generate(trained_net, x, y, seed=0, verbose=0)
            left.append(attack.replace(precision="float32").predict(trained_net, found))
        broken = np.array(left) != y
        assert np.abs(broken[0].sum() - broken[1].sum()) <= 2

    def test_is_an_attack_like_others(self):
        attack = AutoAttack(0.1, version="plus", precision="bfloat16")
        assert isinstance(attack, Attack)
        assert all(each.precision == "bfloat16" for each in attack.attacks)

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [({"version": "quick"}, "version"), ({"steps": 0}, "steps")],
    )
    def test_rejects(self, arguments, name):
        with pytest.raises(ValueError, match=f"`AutoAttack` expects `{name}`"):
            AutoAttack(0.1, **arguments)


def test_success_is_confirmed_on_draws_that_no_attack_has_seen(images, labels):
    keys, net = [], small_net()

    def spy(images):
        key = scope_key()
        if tf.executing_eagerly() and key is not None:
            keys.append(tuple(key.numpy()))
        return net(images)

    attack = AutoAttack(0.1, steps=2, queries=2)
    attack(spy, tf.constant(images), tf.constant(labels), seed=0)
    # FAB, too, confirms what it found.
    assert len(keys) > 20
    assert len(set(keys)) == len(keys)
