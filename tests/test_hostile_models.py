"""Whatever a model returns, attacks stay finite and in the ball, or say why not."""

import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import (
    FGSM,
    PGD,
    SPSA,
    Attack,
    AutoAttack,
    HopSkipJump,
    Square,
    Transfer,
)
from tests.support.cases import case_id, first_of_each_class
from tests.support.hostile_models import (
    CLASSES,
    KINDS,
    attack_cases,
    check_images,
    goal_of,
    hostile,
    hostile_images,
    hostile_labels,
    plain,
    targeted_cases,
)

CASES = attack_cases()
BAD = 9


def crafted(attack, how, images, model=hostile):
    """Adversarial images of one attack, made in one of several ways."""
    goal = goal_of(attack, hostile_labels(len(images)))
    if how in ("generate", "early"):
        return attack.generate(
            model,
            images,
            seed=1,
            batch_size=5,
            verbose=0,
            stop_early=how == "early",
            **goal,
        )

    def call(images):
        return attack(model, images, seed=1, **goal)

    if how == "eager":
        return call(images)
    return tf.function(call, autograph=False, jit_compile=how == "jit")(images)


def leaves(cls):
    """Whether this class of attack may stop early on broken images."""
    return cls.fill is not Attack.fill


# The others are left to the night; see below.
@pytest.mark.parametrize(("cls", "arguments"), first_of_each_class(CASES), ids=case_id)
def test_returns_finite_images_of_the_ball(cls, arguments):
    attack, images = cls(**arguments), hostile_images()
    check_images(crafted(attack, "eager", images), images, attack)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:5 out of the last")
@pytest.mark.parametrize(
    ("cls", "arguments", "how"),
    [
        pytest.param(
            cls, arguments, how, id=f"{case_id(cls)}-{case_id(arguments)}-{how}"
        )
        for how in ("eager", "generate", "early", "graph", "jit")
        for cls, arguments in [*CASES, *targeted_cases()]
        if how != "early" or leaves(cls)
    ],
)
def test_returns_them_however_it_is_called(cls, arguments, how):
    attack = cls(**arguments)
    for seed in range(2):
        images = hostile_images(seed)
        check_images(crafted(attack, how, images), images, attack)


# One attack for each way in which `generate` fills its result.
FILLS = [
    FGSM(0.1),
    PGD(0.1, steps=2),
    Square(0.1, queries=3),
    HopSkipJump(3.0, steps=1),
]
FILLS += [AutoAttack(0.1, steps=2, queries=2)]


@pytest.mark.parametrize("attack", FILLS, ids=str)
def test_returns_them_from_generate(attack):
    images = hostile_images()
    for how in ("generate", "early") if leaves(type(attack)) else ("generate",):
        check_images(crafted(attack, how, images), images, attack)


@pytest.mark.parametrize(
    "dtype", ["float16", "float64", "uint8"], ids=lambda dtype: dtype
)
def test_takes_images_of_any_type_and_number(dtype):
    images = hostile_images()[:1]
    span = 255.0 if dtype == "uint8" else 1.0
    given = (span * images).astype(dtype)
    attack = PGD(0.1 * span, steps=2, value_range=(0.0, span))
    found = attack.generate(lambda x: hostile(x / span), given, [0], seed=0, verbose=0)
    assert np.isfinite(found).all()
    assert found.min() >= 0.0
    assert found.max() <= span
    assert np.abs(found - given).max() <= 0.1 * span * (1 + 1e-5) + 1e-6 * span


def bad_behind(value):
    """A model that returns one bad value for images whose first pixel is white."""

    def model(images):
        is_bad = images[:, 0, 0] > 0.99
        return tf.where(is_bad & (np.arange(CLASSES) == 2), value, plain(images))

    return model


def marked_images():
    """Images of which number 9, in the second batch of five, triggers the bad value."""
    images = hostile_images()
    images[BAD, 0, 0] = 1.0
    return images


@pytest.mark.parametrize("attack", FILLS, ids=str)
def test_generate_refuses_clean_images_without_finite_logits(attack):
    # Of one model with three values, an attack is traced once.
    value = tf.Variable(0.0)
    model = bad_behind(value)
    for how in ("generate", "early") if leaves(type(attack)) else ("generate",):
        for bad in (np.nan, np.inf):
            value.assign(bad)
            with pytest.raises(ValueError, match=f"NaN or infinity for image {BAD}"):
                crafted(attack, how, marked_images(), model)
        # It only excludes the class.
        value.assign(-np.inf)
        images = marked_images()
        check_images(crafted(attack, how, images, model), images, attack)


@pytest.mark.parametrize(("cls", "arguments"), first_of_each_class(CASES), ids=case_id)
def test_eager_call_refuses_them_too(cls, arguments):
    if cls is Transfer:
        arguments = {**arguments, "surrogate": bad_behind(np.nan)}
    attack = cls(**arguments)
    named = f"`{cls.__name__}` expects `model` .* for image {BAD}"
    with pytest.raises(ValueError, match=named):
        crafted(attack, "eager", marked_images(), bad_behind(np.nan))


def test_a_surrogate_without_finite_logits_is_refused():
    attack = Transfer(bad_behind(np.nan), FGSM(0.1))
    for how in ("generate", "eager"):
        with pytest.raises(ValueError, match=f"`surrogate` .* for image {BAD}"):
            crafted(attack, how, marked_images(), plain)


@pytest.mark.parametrize("attack", FILLS[:3], ids=str)
def test_a_graph_that_cannot_refuse_leaves_finite_images(attack):
    images = marked_images()
    found = crafted(attack, "graph", images, bad_behind(np.nan))
    check_images(found, images, attack)


@pytest.mark.parametrize(
    ("attack", "passes"),
    [
        # One step per batch.
        (FGSM(0.1), 3),
        # From random starts the steps never see the clean images.
        (PGD(0.1, steps=2, return_best=False), 3 * 2 + 3),
        (PGD(0.1, steps=2, return_best=False, random_start=False), 3 * 2),
    ],
    ids=str,
)
def test_looks_at_clean_images_once(attack, passes):
    counted = []

    def model(images):
        def count(pixels):
            counted.append(len(pixels))
            return pixels

        seen = tf.numpy_function(count, [tf.stop_gradient(images)], tf.float32)
        return plain(images + 0.0 * tf.ensure_shape(seen, images.shape))

    images = hostile_images()
    attack.generate(model, images, hostile_labels(), seed=0, batch_size=5, verbose=0)
    assert len(counted) == passes


class TestNoAnswer:
    """NaN is not a class: to every attack, images with NaN logits are misclassified."""

    @pytest.mark.parametrize("targeted", [False, True])
    @pytest.mark.parametrize("how", ["eager", "graph", "jit", "generate"])
    def test_it_is_a_success_but_never_a_target(self, how, targeted):
        row = list(KINDS).index("NaN around the image")
        images = np.repeat(hostile_images()[3:4], len(KINDS), axis=0)
        attack = PGD(0.01, steps=3, targeted=targeted, random_start=False)
        found = np.asarray(crafted(attack, how, images, KINDS["NaN around the image"]))
        has_none = np.isnan(KINDS["NaN around the image"](found)).any(axis=1)
        # In a targeted attack, the clean image is the best point with finite logits.
        labels = hostile_labels()
        wrong = plain(images).numpy().argmax(axis=1) != labels
        assert row == 0
        if targeted:
            np.testing.assert_array_equal(found, images)
        else:
            assert (has_none | wrong).all()

    def test_predict_tells_it(self):
        images = marked_images()
        predicted = FGSM(0.1).predict(bad_behind(np.nan), images, batch_size=5)
        expected = plain(images).numpy().argmax(axis=1)
        expected[BAD] = -1
        np.testing.assert_array_equal(predicted, expected)

    def test_a_search_finds_it(self):
        images = hostile_images()[3:5]
        attack = HopSkipJump(steps=1, initial_evaluations=4)
        found = attack.search(KINDS["NaN around the image"], images, seed=0, verbose=0)
        assert found.success.all()
        assert np.isnan(KINDS["NaN around the image"](found.images)).all()


def test_some_pairs_without_an_answer_do_not_blind_spsa():
    """Half of the pairs step into NaN; the others still give a direction."""

    def model(images):
        score = tf.reduce_sum(images, [1, 2, 3])[:, None] * [[-1.0, 1.0]]
        both = images[:, 0, :2, 0]
        is_bad = tf.reduce_all((both > 0.505) & (both < 0.515), 1, keepdims=True)
        return tf.where(is_bad, np.nan, score)

    images = np.full((1, 4, 4, 1), 0.5, "float32")
    attack = SPSA(0.1, steps=4, samples=64, targeted=True)
    found = attack.generate(model, images, target_labels=[1], seed=0, verbose=0)
    assert found.mean() > 0.55
