import keras
import numpy as np
import pytest
from scipy.special import log_softmax, rel_entr, softmax

from keras_advdef.attacks import PGD, Square
from keras_advdef.objectives import MART
from keras_advdef.training import AdversarialTrainingModel
from tests.support.logit_model import ATTACKED, CLEAN, of_logits
from tests.support.nets import small_net, sparse_loss


def _by_hand(clean, label, attacked, beta, stabilisers=(1.0, 0.0, 1.0)):
    """The loss of one image; stabilisers as in the authors' code if given."""
    before, after = softmax(clean), softmax(attacked)
    margin, tiny, doubt = stabilisers
    cross_entropy = -np.log(after[label] + tiny)
    cross_entropy -= np.log(margin - np.delete(after, label).max() + tiny)
    divergence = rel_entr(before, after).sum()
    return cross_entropy + beta * divergence * (doubt - before[label])


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(0, 2, (2, 8, 4))


class TestMART:
    def test_parts_and_total_of_appendix_b(self):
        parts = {}
        for beta in (0.0, 5.0):
            losses, _, _ = of_logits(MART(beta=beta), CLEAN, [0], ATTACKED)
            parts[beta] = float(losses[0])
        np.testing.assert_allclose(parts[0.0], 2.42521933, rtol=1e-6)
        np.testing.assert_allclose(parts[5.0], 3.17640934, rtol=1e-6)
        weight = (parts[5.0] - parts[0.0]) / (5.0 * 0.42191525)
        np.testing.assert_allclose(weight, 0.35608574, rtol=1e-5)

    def test_the_authors_stabilisers_are_left_out(self):
        """They move the fourth digit; log space needs none."""
        given = CLEAN[0], 0, ATTACKED[0], 5.0
        theirs = _by_hand(*given, stabilisers=(1.0001, 1e-12, 1.0000001))
        np.testing.assert_allclose(theirs, 3.17616102, rtol=1e-7)
        np.testing.assert_allclose(_by_hand(*given), 3.17640934, rtol=1e-7)

    def test_matches_numpy(self, logits):
        clean, attacked = logits
        labels = np.arange(8) % 4
        found, _, _ = of_logits(MART(beta=3.0), clean, labels, attacked)
        expected = [
            _by_hand(*each, 3.0) for each in zip(clean, labels, attacked, strict=True)
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-5)

    def test_gradients_match_finite_differences(self, logits):
        """Through the weight of the divergence, too."""
        clean, attacked = logits
        labels, step = np.arange(8) % 4, 1e-6
        _, *found = of_logits(MART(beta=3.0), clean, labels, attacked)
        for side in range(2):
            for row, column in np.ndindex(8, 4):
                moved = np.zeros((2, 4))
                moved[side, column] = step
                there, back = (
                    _by_hand(
                        clean[row] + sign * moved[0],
                        labels[row],
                        attacked[row] + sign * moved[1],
                        3.0,
                    )
                    for sign in (1, -1)
                )
                slope = (there - back) / (2 * step)
                np.testing.assert_allclose(found[side][row, column], slope, atol=1e-5)

    def test_a_row_of_probabilities_is_the_mean_over_its_classes(self, logits):
        clean, attacked = logits
        rows = softmax(np.random.default_rng(1).normal(0, 1, (8, 4)), axis=1)
        rows[0] = [0.0, 0.3, 0.7, 0.0]
        found, _, _ = of_logits(MART(), clean, rows.astype("float32"), attacked)
        of_classes = [
            of_logits(MART(), clean, np.full(8, label), attacked)[0]
            for label in range(4)
        ]
        expected = np.sum(rows * np.transpose(of_classes), axis=1)
        np.testing.assert_allclose(found, expected, rtol=1e-5)

    @pytest.mark.parametrize("dtype", ["int64", "float32", "uint8"])
    def test_one_hot_rows_are_classes(self, dtype, logits):
        clean, attacked = logits
        labels = np.arange(8) % 4
        rows = np.eye(4, dtype=dtype)[labels]
        one, other = (
            of_logits(MART(), clean, each, attacked)[0] for each in (labels, rows)
        )
        np.testing.assert_allclose(one, other, rtol=1e-6)

    def test_with_two_classes_it_is_twice_the_cross_entropy(self, logits):
        clean, attacked = logits[:, :, :2]
        labels = np.arange(8) % 2
        found, _, _ = of_logits(MART(beta=0.0), clean, labels, attacked)
        right = log_softmax(attacked, axis=1)[range(8), labels]
        np.testing.assert_allclose(found, -2.0 * right, rtol=1e-5)

    def test_one_sigmoid_unit_has_two_classes(self, logits):
        unit, attacked = logits[:, :, :1]
        labels = np.arange(8) % 2
        found, *gradients = of_logits(MART(), unit, labels[:, None], attacked)
        pairs = (np.pad(each, ((0, 0), (1, 0))) for each in (unit, attacked))
        clean, other = pairs
        expected, *of_pairs = of_logits(MART(), clean, labels, other)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        for one, pair in zip(gradients, of_pairs, strict=True):
            np.testing.assert_allclose(one[:, 0], pair[:, 1], atol=1e-6)

    @pytest.mark.parametrize("label", [0, 1])
    def test_is_finite_where_the_model_is_sure(self, label):
        """As large as the logits say, with gradients of at most a few units."""
        sure = [[400.0, 0.0, -400.0]]
        losses, *gradients = of_logits(MART(beta=0.0), sure, [label], sure)
        np.testing.assert_allclose(losses, [[0.0], [800.0]][label], atol=1e-6)
        assert all(np.isfinite(each).all() for each in gradients)
        np.testing.assert_allclose(gradients[1][0, 0], [0.0, 2.0][label], atol=1e-6)

    def test_states_the_attack(self, net):
        attack = PGD(0.1, loss="margin")
        (inner,) = AdversarialTrainingModel(net, attack, MART())._attacks
        assert (inner.loss, inner.random_start) == ("cross_entropy", "gaussian")

    def test_refuses_an_attack_without_a_loss(self, net):
        pattern = "one that takes `loss` and `random_start`, which `MART` sets"
        with pytest.raises(ValueError, match=pattern):
            AdversarialTrainingModel(net, Square(0.1), MART())

    def test_trains_compiled_in_half_precision(self, images, labels):
        keras.config.set_dtype_policy("mixed_float16")
        try:
            net = small_net()
        finally:
            keras.config.set_dtype_policy("float32")
        model = AdversarialTrainingModel(net, PGD(0.1, steps=2), MART())
        model.compile("adam", sparse_loss(), jit_compile=True)
        history = model.fit(images, labels, epochs=3, verbose=0).history
        assert history["loss"][-1] < history["loss"][0]

    def test_needs_an_attack(self, net):
        with pytest.raises(ValueError, match=r"on which `MART` trains. Received"):
            AdversarialTrainingModel(net, objective=MART())

    def test_rejects(self):
        with pytest.raises(ValueError, match="`MART` expects `beta`"):
            MART(beta=-1.0)
