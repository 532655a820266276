import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from keras_advdef.attacks import CarliniWagner, DeepFool
from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.random_state import draw_scope
from keras_advdef.models import SmoothedClassifier
from keras_advdef.models.smoothed_classifier import ABSTAINED
from tests.support.nets import linear_net, small_net

STDDEV = 0.2
# Distances of four images from the boundary of the linear net, in l2.
DISTANCES = np.array([0.02, 0.15, 0.3, 0.5])
SLOPE = np.array([0.6, -0.8])


def linear_case():
    net = linear_net(np.stack([SLOPE, -SLOPE]), [0.0, 0.0])
    images = (DISTANCES[:, None] * SLOPE).astype("float32").reshape(4, 2, 1, 1)
    return net, images


@pytest.fixture
def smoothed():
    keras.utils.set_random_seed(0)
    net, _ = linear_case()
    return SmoothedClassifier(net, stddev=STDDEV, samples=400)


def test_certificates_draw_from_the_stream_of_the_noise(smoothed, monkeypatch):
    # Not from TensorFlow's generator, which the system starts with 32 bits.
    monkeypatch.setattr(tf.random, "uniform", None)
    _, images = linear_case()
    (state,) = [each for each in smoothed.weights if "random_state" in each.path]
    counts, drawn = [], []
    counted = smoothed._counted
    monkeypatch.setattr(
        smoothed, "_counted", lambda *args: drawn.append(counted(*args)) or drawn[-1]
    )
    for _ in range(2):
        smoothed.classify(images[:1])
        smoothed.certify(images, selection=50, samples=400)
        counts.append(int(state.numpy()[0]))
    assert counts == [512, 1024]
    later = len(drawn) // 2
    assert not np.array_equal(drawn[0], drawn[later])
    smoothed.classify(images, seed=3)
    smoothed.certify(images, selection=50, samples=400, seed=3)
    assert state.numpy()[0] == 1024


class TestPredict:
    def test_votes_follow_the_normal_law(self, smoothed):
        _, images = linear_case()
        shares = smoothed.predict(images, verbose=0)
        chance = scipy.stats.norm.cdf(DISTANCES / STDDEV)
        error = np.sqrt(chance * (1 - chance) / 400)
        assert (np.abs(shares[:, 0] - chance) < 4.5 * error + 1e-6).all()
        np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-6)
        assert not np.array_equal(shares, smoothed.predict(images, verbose=0))

    def test_votes_differ_in_a_scope_too(self, smoothed):
        with draw_scope(make_key(3)):
            shares = smoothed(linear_case()[1])
        assert ((shares[:2] > 0) & (shares[:2] < 1)).numpy().all()

    def test_seeds_repeat(self):
        _, images = linear_case()
        shares = []
        for _ in range(2):
            keras.utils.set_random_seed(4)
            model = SmoothedClassifier(linear_case()[0], stddev=STDDEV, samples=9)
            shares.append(model.predict(images, verbose=0))
        np.testing.assert_array_equal(*shares)

    def test_logits_are_the_mean_probability(self, smoothed):
        _, images = linear_case()
        probability = tf.nn.softmax(smoothed.logits(tf.constant(images)))
        gaps = np.random.default_rng(0).normal(size=(4, 20_000)) * STDDEV
        expected = scipy.special.expit(2 * (DISTANCES[:, None] + gaps)).mean(axis=1)
        np.testing.assert_allclose(probability[:, 0], expected, atol=0.02)


class TestClassify:
    def test_abstains_where_votes_are_close(self, smoothed):
        _, images = linear_case()
        found = smoothed.classify(images)
        assert found.tolist()[2:] == [0, 0]
        assert found[0] in (ABSTAINED, 0)
        centre = np.zeros((1, 2, 1, 1), "float32")
        few = SmoothedClassifier(smoothed.classifier, stddev=STDDEV, samples=5)
        # No vote of five is sure at one in a thousand: the least p-value is 2 / 2^5.
        assert few.classify(np.repeat(centre, 3, axis=0)).tolist() == [ABSTAINED] * 3
        assert few.classify(images[3:], failure=0.07).tolist() == [0]

    def test_says_a_wrong_class_no_more_often_than_promised(self, smoothed):
        # At the boundary any class is wrong half the time it is said.
        images = np.zeros((400, 2, 1, 1), "float32")
        found = smoothed.classify(images, failure=0.05)
        share = np.mean(found != ABSTAINED)
        assert share < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 400)


class TestCertify:
    def test_radii_approach_the_distance_from_below(self, smoothed):
        _, images = linear_case()
        found = smoothed.certify(images, samples=4000)
        assert (found.radii <= DISTANCES).all()
        assert found.radii[2] > 0.8 * DISTANCES[2]
        assert found.classes[1:].tolist() == [0, 0, 0]
        assert found.radii[found.classes == ABSTAINED].sum() == 0

    def test_largest_radius_is_the_one_of_unanimous_votes(self):
        net = linear_net([[0.0, 0.0], [0.0, 0.0]], [1.0, 0.0])
        model = SmoothedClassifier(net, stddev=0.5, samples=10)
        images = np.zeros((2, 2, 1, 1), "float32")
        found = model.certify(images, samples=200, failure=0.01)
        expected = 0.5 * scipy.stats.norm.ppf(0.01 ** (1 / 200))
        np.testing.assert_allclose(found.radii, expected, rtol=1e-6)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "attack",
        [DeepFool(overshoot=0.0), CarliniWagner(steps=60, binary_search_steps=4)],
        ids=lambda attack: type(attack).__name__,
    )
    def test_never_beyond_an_attack_on_the_limit(self, attack):
        # The smoothed linear classifier is the linear one.
        net, images = linear_case()
        images = images + np.float32(0.4)
        net.layers[-1].bias.assign(-0.4 * SLOPE.sum() * np.array([1.0, -1.0]))
        model = SmoothedClassifier(net, stddev=STDDEV, samples=10)
        found = attack.search(net, images, np.zeros(4, int), seed=0, verbose=0)
        radii = model.certify(images, samples=2000).radii
        assert (radii <= found.norms * (1 + 1e-5)).all()

    def test_wanted_radii_take_a_tenth_of_the_passes(self, smoothed, monkeypatch):
        _, images = linear_case()
        passes = []
        count = smoothed._pass
        monkeypatch.setattr(
            smoothed, "_pass", lambda *args: passes.append(1) or count(*args)
        )
        sizes = []
        for radii in (None, (0.1, 0.25)):
            passes.clear()
            found = smoothed.certify(images, radii=radii, samples=10_000, seed=0)
            sizes.append(len(passes))
            assert (found.radii <= DISTANCES).all()
        assert sizes[0] == 4 * 80
        assert sizes[1] <= sizes[0] / 10
        assert (found.radii[1:] >= [0.1, 0.25, 0.25]).all()
        assert count.traces == 1

    def test_an_image_does_not_depend_on_those_after_it(self, smoothed):
        _, images = linear_case()
        settings = {"radii": (0.1,), "samples": 500, "seed": 3}
        whole, part = (
            smoothed.certify(each, **settings).radii for each in (images, images[:2])
        )
        np.testing.assert_array_equal(whole[:2], part)

    def test_says_how_many_draws_a_radius_needs(self, smoothed):
        images = linear_case()[1]
        # 0.5^10 is the first power of one half below one in a thousand.
        with pytest.raises(ValueError, match=r"`samples`.*takes at least 10\."):
            smoothed.certify(images, samples=9)
        smoothed.certify(images[:1], samples=10)
        with pytest.raises(
            ValueError, match=r"`samples`.*takes at least (\d+)"
        ) as info:
            smoothed.certify(images, radii=(0.5,), samples=100)
        needed = int(str(info.value).rstrip(".").split()[-1])
        smoothed.certify(images[:1], radii=(0.5,), samples=needed)
        with pytest.raises(ValueError, match="`samples`"):
            smoothed.certify(images[:1], radii=(0.5,), samples=needed - 1)
        with pytest.raises(ValueError, match="No number of draws"):
            smoothed.certify(images, radii=(9.0,))
        with pytest.raises(ValueError, match="`radii`"):
            smoothed.certify(images, radii=(-1.0,))
        with pytest.raises(ValueError, match="`radii`"):
            smoothed.certify(images, radii=())

    def test_seeds_fix_the_draws(self, smoothed):
        _, images = linear_case()
        one, again, other = (
            smoothed.certify(images, samples=60, seed=seed).radii for seed in (1, 1, 2)
        )
        np.testing.assert_array_equal(one, again)
        assert not np.array_equal(one, other)

    def test_odd_batches(self, smoothed):
        _, images = linear_case()
        found = smoothed.certify(images, samples=50, batch_size=3)
        assert found.classes.shape == found.radii.shape == (4,)


class TestSaving:
    def test_file_and_export(self, digits, tmp_path):
        model = SmoothedClassifier(small_net(), stddev=0.1, samples=5)
        model.save(tmp_path / "model.keras")
        copy = keras.models.load_model(tmp_path / "model.keras")
        assert (copy.stddev, copy.samples) == (0.1, 5)
        x = digits.x_test[:2]
        np.testing.assert_array_equal(
            model.predict(x, verbose=0), copy.predict(x, verbose=0)
        )
        model.export(tmp_path / "served", verbose=False)
        served = tf.saved_model.load(str(tmp_path / "served"))
        assert served.serve(tf.constant(x)).shape == (2, 3)

    def test_classifier_may_end_in_softmax_and_train(self, digits):
        model = SmoothedClassifier(small_net(head="softmax"), stddev=0.1, samples=3)
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy())
        history = model.fit(digits.x_train, digits.y_train, epochs=3, verbose=0)
        losses = history.history["loss"]
        assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"stddev": 0.0}, "stddev"),
        ({"stddev": -1.0}, "stddev"),
        ({"stddev": 1.0, "samples": 0}, "samples"),
    ],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=f"`SmoothedClassifier` expects `{name}`"):
        SmoothedClassifier(small_net(), **arguments)


def test_bad_calls():
    with pytest.raises(TypeError, match="`classifier`"):
        SmoothedClassifier(len, stddev=1.0)
    model = SmoothedClassifier(small_net(), stddev=1.0)
    with pytest.raises(ValueError, match="`failure`"):
        model.classify(np.zeros((1, 8, 8, 1)), failure=0.0)
    with pytest.raises(ValueError, match="`samples`"):
        model.certify(np.zeros((1, 8, 8, 1)), samples=0)
    with pytest.raises(ValueError, match="`images`"):
        model.certify(np.zeros((0, 8, 8, 1)))


def test_nan_votes_for_no_class():
    # `argmax` of NaN is 0, which would be certified with the largest radius.
    broken = linear_net([[np.nan, 0.0], [0.0, 1.0]], [0.0, 0.0])
    model = SmoothedClassifier(broken, stddev=STDDEV, samples=20)
    images = linear_case()[1]
    assert not model.predict(images, verbose=0).any()
    assert model.classify(images, seed=0).tolist() == [ABSTAINED] * 4
    found = model.certify(images, selection=10, samples=100, seed=0)
    assert found.classes.tolist() == [ABSTAINED] * 4
    assert not found.radii.any()
