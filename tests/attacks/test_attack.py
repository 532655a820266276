import functools
import traceback

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import (
    APGD,
    FAB,
    FGSM,
    JSMA,
    PGD,
    SPSA,
    Attack,
    CarliniWagner,
    DeepFool,
    HopSkipJump,
    Square,
)
from tests.support.nets import linear_net, small_net


class Brighter(Attack):
    """The simplest attack: adds epsilon."""

    def __init__(self, epsilon=None, *, norm="linf", value_range=(0.0, 1.0)):
        super().__init__(epsilon, norm=norm, value_range=value_range)

    def perturb(self, logits_fn, images, labels, epsilon, seed):
        del logits_fn, labels, seed
        return tf.clip_by_value(images + epsilon, 0.0, 1.0)


class TestAttack:
    def test_maps_range_and_epsilon(self, net):
        images = np.full((2, 8, 8, 1), 100.0)
        result = Brighter(8, value_range=(0, 255))(net, images, [0, 1])
        np.testing.assert_allclose(result, np.full_like(images, 108.0), rtol=1e-6)

    def test_epsilon_may_be_given_by_the_call_and_per_image(self, net, images, labels):
        attack = FGSM()
        epsilon = np.linspace(0.0, 0.05, len(images)).astype("float32")
        result = attack(net, images, labels, epsilon=epsilon)
        moved = np.abs(result - images).max(axis=(1, 2, 3))
        np.testing.assert_allclose(moved, epsilon, atol=1e-6)

    @pytest.mark.parametrize(
        ("scale", "bad_labels", "message"),
        [
            (255.0, [0] * 6, r"`Brighter` expects `images` to be in the value range"),
            (np.nan, [0] * 6, "finite; image 0"),
            (1.0, np.ones((6, 3)), "rows that sum to 1 over the classes; row 0"),
            (1.0, [0.5] * 6, "`labels` to be whole numbers"),
        ],
    )
    def test_an_eager_call_is_checked(self, scale, bad_labels, message, net, images):
        with pytest.raises(ValueError, match=message):
            Brighter(0.1)(net, scale * images, bad_labels)

    def test_missing_epsilon(self, net, images, labels):
        for call in (FGSM(), FGSM().generate):
            with pytest.raises(ValueError, match="given in the constructor or in the"):
                call(net, images, labels)

    def test_autograph_rewrites_none_of_it(self, images):
        stack = []

        def model(pixels):
            stack.extend(frame.name for frame in traceback.extract_stack())
            return tf.reduce_mean(pixels, axis=(1, 2)) * [[-1.0, 1.0]]

        attack = PGD(0.1, steps=2)
        tf.function(lambda pixels: attack(model, pixels, [0] * 6))(images)
        assert "perturb" in stack
        # Not `tf__perturb`; only the wrapper that turns AutoGraph off is rewritten.
        rewritten = {name for name in stack if name.startswith("tf__")}
        assert rewritten <= {"tf__wrapper"}

    def test_epsilon_tensor_never_retraces(self, net, images, labels):
        traces = []

        @tf.function(autograph=False)
        def craft(epsilon):
            traces.append(1)
            return FGSM()(net, images, labels, epsilon=epsilon)

        for epsilon in (0.1, 0.2, 0.3):
            craft(tf.constant(epsilon))
        assert len(traces) == 1

    def test_generate_traces_once_for_a_shape(self, images, labels):
        traces = []

        class Counting(keras.layers.Layer):
            def call(self, inputs):
                traces.append(1)
                return inputs

        net = small_net(front=[Counting()])
        attack = FGSM(0.1)
        many, their_labels = np.tile(images, (3, 1, 1, 1))[:17], np.tile(labels, 3)[:17]
        attack.generate(net, many, their_labels, batch_size=4, verbose=0)
        first = len(traces)
        for epsilon in (0.1, 0.2):
            attack.generate(
                net, many, their_labels, batch_size=4, epsilon=epsilon, verbose=0
            )
        attack.generate(net, many[:8], their_labels[:8], batch_size=4, verbose=0)
        assert len(traces) == first

    def test_generate_notices_another_model_and_a_changed_one(self, images, labels):
        attack = FGSM(0.1)
        first, second = small_net(), small_net()
        one = attack.generate(first, images, labels, verbose=0)
        other = attack.generate(second, images, labels, verbose=0)
        assert np.any(one != other)
        np.testing.assert_array_equal(
            other, FGSM(0.1).generate(second, images, labels, verbose=0)
        )

    def test_no_labels_means_the_models_predictions(self, net, images):
        predicted = np.argmax(net(images), axis=-1)
        for call in (FGSM(0.1), lambda *a: FGSM(0.1).generate(*a, verbose=0)):
            np.testing.assert_array_equal(
                call(net, images), call(net, images, predicted)
            )

    def test_any_function_to_logits_can_be_attacked(self, net, images, labels):
        result = FGSM(0.1)(net.__call__, images, labels)
        np.testing.assert_array_equal(result, FGSM(0.1)(net, images, labels))

    def test_softmax_head_is_undone(self, images, labels):
        softmax = small_net(head="softmax")
        plain = small_net()
        for net in (softmax, plain):
            weights = [100 * w for w in plain.get_weights()]
            net.set_weights(weights)
        # At these logits float32 probabilities are exactly 0 and 1.
        result = FGSM(0.1)(softmax, images, labels)
        np.testing.assert_allclose(result, FGSM(0.1)(plain, images, labels), atol=1e-6)
        assert np.abs(result - images).max() > 0.09

    def test_a_softmax_in_a_function_is_undone(self, images, labels):
        net = small_net(head="softmax")
        for call in (FGSM(0.1), functools.partial(FGSM(0.1).generate, verbose=0)):
            expected = call(net, images, labels)
            np.testing.assert_allclose(
                call(net.__call__, images, labels), expected, atol=1e-6
            )

    def test_lone_image_and_last_partial_batch(self, net, images, labels):
        attack = FGSM(0.1)
        whole = attack.generate(net, images, labels, verbose=0)
        parts = attack.generate(net, images, labels, batch_size=4, verbose=0)
        single = attack.generate(net, images[:1], labels[:1], verbose=0)
        # Signs of gradients near zero may depend on the batch's summation order.
        assert np.mean(np.abs(whole - parts) < 1e-6) > 0.99
        assert np.mean(np.abs(whole[:1] - single) < 1e-6) > 0.99

    def test_whole_numbers_are_images_too(self, net):
        pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), "uint8")
        attack = FGSM(8, value_range=(0, 255))
        result = attack.generate(net, pixels, [0, 1, 2], verbose=0)
        assert result.dtype == np.float32
        assert np.abs(result - pixels.astype("float32")).max() == pytest.approx(
            8, rel=1e-5
        )

    def test_progress_bar_counts_images(self, net, images, labels, capsys):
        FGSM(0.1).generate(net, images, labels, batch_size=4, verbose=1)
        assert "6/6" in capsys.readouterr().out
        FGSM(0.1).generate(net, images, labels, batch_size=4, verbose=0)
        assert capsys.readouterr().out == ""

    def test_targets_and_targeted_go_together(self, net, images, labels):
        with pytest.raises(ValueError, match=r"exactly when .*targeted=True"):
            PGD(0.1, steps=1, targeted=True)(net, images, labels)
        with pytest.raises(ValueError, match=r"exactly when .*targeted=True"):
            PGD(0.1, steps=1)(net, images, labels, target_labels=labels)

    def test_base_cannot_stop_early_or_perturb(self, net, images, labels):
        with pytest.raises(ValueError, match="`stop_early` to be False"):
            Brighter(0.1).generate(net, images, labels, verbose=0, stop_early=True)
        bare = Attack(
            0.1, norm="l2", value_range=(0, 1), targeted=False, training=False
        )
        with pytest.raises(NotImplementedError, match="must write `perturb`"):
            bare(net, images, labels)

    def test_predict_draws_by_seed(self, images):
        net = linear_net(np.eye(2), np.zeros(2))
        tall = np.array([0.3, 0.8]).reshape(1, 2, 1, 1)
        assert FGSM(0.1).predict(net, tall) == [1]

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            ({"epsilon": -0.1}, "epsilon"),
            ({"epsilon": float("nan")}, "epsilon"),
            ({"epsilon": "large"}, "epsilon"),
            ({"epsilon": 0.1, "norm": "l3"}, "norm"),
            ({"epsilon": 0.1, "value_range": (1, 0)}, "value_range"),
        ],
    )
    def test_rejects_arguments(self, arguments, name):
        with pytest.raises(ValueError, match=f"`FGSM` expects `{name}`"):
            FGSM(**arguments)

    def test_generate_tells_of_an_epsilon_of_another_range(self, net):
        images = np.full((2, 8, 8, 1), 100.0)
        for attack, given in (
            (Brighter(8 / 255, value_range=(0, 255)), None),
            (Brighter(value_range=(0, 255)), 8 / 255),
        ):
            with pytest.warns(UserWarning, match="Did you mean 8, in the units"):
                attack.generate(net, images, epsilon=given, verbose=0)

    def test_eight_is_not_eight_255ths(self):
        with pytest.raises(ValueError, match=r"Did you mean 8/255 = 0\.0314"):
            FGSM(8)

    @pytest.mark.parametrize(
        ("bad_images", "bad_labels", "message"),
        [
            (np.full((2, 8, 8, 1), 2.0), [0, 1], r"value range \[0, 1\]"),
            (np.full((2, 8, 8, 1), np.nan), [0, 1], "image 0 holds NaN"),
            (np.zeros((2, 64)), [0, 1], "For a model of vectors, put"),
            (np.zeros((0, 8, 8, 1)), [], "non-empty"),
            (np.zeros((2, 8, 8, 1)), [0, 3], r"in \[0, 3\).*Received: labels=3"),
            (np.zeros((2, 8, 8, 1)), [0, -1], r"in \[0, 3\).*Received: labels=-1"),
            (np.zeros((2, 8, 8, 1)), [0, 1, 2], r"of shape \(2,\)"),
            (np.zeros((2, 8, 8, 1)), [0.5, 1], "whole numbers"),
        ],
    )
    def test_generate_rejects(self, net, bad_images, bad_labels, message):
        with pytest.raises(ValueError, match=message):
            FGSM(0.1).generate(net, bad_images, bad_labels, verbose=0)


class TestArguments:
    def test_of_the_bases_come_after_its_own(self):
        own, bases = ("epsilon", "queries"), ("restarts", "norm", "targeted")
        assert Square.arguments()[:5] == (*own, *bases)

    def test_a_class_without_kwargs_takes_its_own_alone(self):
        assert Brighter.arguments() == ("epsilon", "norm", "value_range")

    @pytest.mark.parametrize(("cls", "name"), [(PGD, "stepz"), (FGSM, "steps")])
    def test_unknown_and_settled_ones_are_refused(self, cls, name):
        match = f"`{cls.__name__}` expects `{name}` to be left out. Received: {name}=3"
        with pytest.raises(TypeError, match=rf"{match}\. Its arguments are epsilon, "):
            cls(0.1, **{name: 3})

    def test_given_ones_reach_every_base(self):
        attack = PGD(0.1, steps=3, restarts=2, loss="dlr", norm="l2", eot_samples=4)
        assert (attack.steps, attack.restarts, attack.loss) == (3, 2, "dlr")
        assert (attack.norm, attack.eot_samples, attack.momentum) == ("l2", 4, 0.0)

    def test_defaults_that_differ_from_the_base(self):
        assert (PGD().steps, APGD().steps, SPSA().steps) == (40, 100, 100)
        assert (PGD().random_start, FGSM().random_start) == (True, False)
        assert (SPSA().loss, SPSA().momentum, SPSA().random_start) == (
            "margin",
            0.9,
            False,
        )
        assert {cls().norm for cls in (DeepFool, CarliniWagner, HopSkipJump)} == {"l2"}
        assert (JSMA().norm, FAB().norm, Square().norm) == ("l0", "linf", "linf")
