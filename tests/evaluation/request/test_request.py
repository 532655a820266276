import keras
import numpy as np
import pytest

from keras_advdef.attacks import FGSM, PGD
from keras_advdef.core.value_range import ValueRange
from tests.support.nets import small_net


class TestRequest:
    def test_keeps_what_was_given(self, make_request):
        own, surrogate = [FGSM(0.1)], lambda images: images
        request = make_request(attacks=own, surrogate=surrogate, batch_size=3, seed=7)
        assert request.attacks == tuple(own)
        assert request.surrogate.model is surrogate
        assert request.reference is None
        assert request.value_range == ValueRange()
        assert (request.count, request.given, request.size) == (4, 4, 3)
        assert (request.epsilon, request.seed) == (0.1, 7)

    def test_size_is_no_larger_than_the_images(self, make_request):
        assert make_request(batch_size=100).size == 4

    @pytest.mark.parametrize(
        ("budget", "count"), [("quick", 200), ("standard", 1000), ("full", 1005)]
    )
    def test_budget_takes_the_first_images(self, budget, count, make_request):
        images = np.linspace(0, 1, 2010).reshape(1005, 2, 1, 1)
        labels = np.arange(1005)
        request = make_request(images=images, labels=labels, budget=budget)
        assert (request.count, request.given) == (count, 1005)
        np.testing.assert_array_equal(request.images, images[:count])
        np.testing.assert_array_equal(request.labels, labels[:count])

    def test_labels_as_integers(self, make_request):
        one_hot = np.eye(2)[[1, 0, 1, 1]]
        assert make_request(labels=one_hot).classes_of(2).tolist() == [1, 0, 1, 1]
        with pytest.raises(ValueError, match=r"in \[0, 2\), .*labels=2"):
            make_request(labels=[0, 1, 2, 0]).classes_of(2)

    def test_soft_labels_name_no_class(self, make_request):
        soft = np.array([[0.0, 1.0], [0.4, 0.6], [1.0, 0.0], [0.5, 0.5]])
        rule = r"one class per image.*labels=\[0.4, 0.6\].*labels\.argmax\(axis=1\)"
        with pytest.raises(ValueError, match=rule):
            make_request(labels=soft).classes_of(2)
        column = make_request(labels=[[0], [1], [1], [0]])
        assert column.classes_of(2).tolist() == [0, 1, 1, 0]

    def test_curve_is_sorted_once(self, make_request):
        assert make_request(curve=[0.2, 0, 0.1, 0.2]).curve == (0.0, 0.1, 0.2)
        assert make_request(curve=[]).curve == ()

    def test_further_norms(self, make_request):
        own = [FGSM(0.1), PGD(0.5, norm="l2")]
        request = make_request(
            norms=["linf", "l2"], epsilon=[0.1, 0.5], attacks=own, curve=[0.2]
        )
        assert (request.norm, request.epsilon) == ("linf", 0.1)
        assert request.further == (("l2", 0.5),)
        under = request.under(request.further[0])
        assert (under.norm, under.epsilon, under.further) == ("l2", 0.5, ())
        assert (under.curve, under.budget.searched) == ((), 0)
        assert under.attacks == tuple(own)
        with pytest.raises(ValueError, match=r"of the norm linf or l2"):
            make_request(
                norms=["linf", "l2"],
                epsilon=[0.1, 0.5],
                attacks=[*own, PGD(0.5, norm="l1")],
            )
        with pytest.raises(ValueError, match=r"at least one .*Add one of l2\."):
            make_request(norms=["linf", "l2"], epsilon=[0.1, 0.5], attacks=own[:1])

    def test_models_that_take_any_size(self, make_request):
        pooled = keras.layers.GlobalAveragePooling2D()
        model = keras.Sequential([keras.Input((None, None, 1)), pooled])
        assert make_request(model=model).evaluated.model is model


class TestEpsilon:
    @pytest.mark.parametrize(
        ("epsilon", "changes", "message"),
        [
            (8, {}, r"at most 1, .*epsilon=8\. Did you mean 8/255 = 0\.0314\?"),
            (0, {}, "above 0"),
            (-0.1, {}, "above 0"),
            (float("nan"), {}, "a finite number"),
            (None, {}, "a finite number"),
            (0.0009, {}, r"at least 0\.1 %"),
            (
                0.03,
                {"value_range": (0, 255)},
                r"at least 0\.1 % .*, 0\.255\. .*Did you mean 7\.65, .*allow_small",
            ),
        ],
    )
    def test_refused(self, epsilon, changes, message, make_request):
        with pytest.raises(ValueError, match=f"expects `epsilon` to be .*{message}"):
            make_request(epsilon=epsilon, **changes)

    def test_small_one_may_be_meant(self, make_request):
        request = make_request(
            epsilon=0.03, value_range=(0, 255), allow_small_epsilon=True
        )
        assert request.epsilon == 0.03
        # Zero is never meant.
        with pytest.raises(ValueError, match="above 0"):
            make_request(epsilon=0, allow_small_epsilon=True)

    @pytest.mark.parametrize("epsilon", [0.001, 1.0])
    def test_ends_are_allowed(self, epsilon, make_request):
        assert make_request(epsilon=epsilon).epsilon == epsilon

    @pytest.mark.parametrize("norm", ["l2", "l1"])
    def test_other_norms_may_exceed_the_range(self, norm, make_request):
        assert make_request(epsilon=8, norm=norm).epsilon == 8.0


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"value_range": (1, 0)}, r"`value_range` to be a pair \(low, high\)"),
            ({"images": np.full((4, 2, 1, 1), 255)}, r"value range \[0, 1\]"),
            ({"images": np.zeros((4, 2))}, "`images` to be a non-empty array"),
            ({"images": np.full((4, 2, 1, 1), np.nan)}, "image 0 holds NaN"),
            ({"labels": None}, "`labels` to be given.*Pass the true classes"),
            ({"labels": [0, 1]}, "`labels` to be as many as the images, 4.*shape .2,"),
            ({"budget": "huge"}, "`budget` to be one of 'quick', 'standard', 'full'"),
            ({"norm": "l0"}, "`norm` to be one of"),
            ({"curve": [-0.1]}, "`curve` to be a finite number of at least 0"),
            ({"batch_size": 0}, "`batch_size` to be an integer of at least 1"),
            ({"precision": "float16"}, "`precision` to be one of"),
            ({"seed": -1}, "`seed` to be an integer"),
            (
                {"attacks": [PGD(20, value_range=(0, 255))]},
                r"`attacks` to be attacks with value_range=\(0\.0, 1\.0\)",
            ),
            ({"attacks": [PGD(0.1, targeted=True)]}, "`attacks` to be untargeted"),
            ({"model": "nowhere.keras"}, "There is no such file or folder"),
            ({"reference": "nowhere.keras"}, "There is no such file or folder"),
        ],
    )
    def test_values(self, changes, message, make_request):
        with pytest.raises(ValueError, match=message):
            make_request(**changes)

    def test_images_of_another_shape(self, make_request):
        with pytest.raises(ValueError, match=r"that the model takes, \(8, 8, 1\)"):
            make_request(model=small_net())

    def test_attacks_that_are_none(self, make_request):
        with pytest.raises(TypeError, match="`attacks` to be an `Attack`"):
            make_request(attacks=["PGD"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": 3}, "`labels` to be as many as the images, 4"),
        ({"attacks": FGSM(0.1)}, "`attacks` to be a list"),
        ({"curve": 0.1}, "`curve` to be a list"),
        ({"corruptions": ["fog"]}, "`corruptions` to be True or False"),
        ({"attacks": [FGSM(0.1, norm="l2")]}, "`attacks` to be of the norm linf"),
        (
            {"model": keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])},
            "the shape that the model takes",
        ),
    ],
)
def test_other_kinds_of_values_are_refused(changes, message, make_request):
    with pytest.raises(ValueError, match=message):
        make_request(**changes)


class TestClassNames:
    def test_one_for_each_class(self, make_request):
        request = make_request(class_names=["cat", "dog"])
        assert request.class_names == ("cat", "dog")
        assert request.classes_of(2).tolist() == [0, 1, 0, 1]
        # A third class may stand for "adversarial".
        assert request.classes_of(3).tolist() == [0, 1, 0, 1]

    @pytest.mark.parametrize("names", [["cat"], ["cat", "dog", "frog"]])
    def test_other_numbers_are_refused(self, make_request, names):
        request = make_request(class_names=names)
        with pytest.raises(ValueError, match="one name for each of the 2 classes"):
            request.classes_of(2)

    @pytest.mark.parametrize("names", ["cat", [], [0, 1], ["cat", " "], {"cat": 0}])
    def test_other_values_are_refused(self, make_request, names):
        with pytest.raises(ValueError, match=r"`class_names`.*a list"):
            make_request(class_names=names)

    def test_name_of_the_data_is_text(self, make_request):
        assert make_request(data_name="photographs").data_name == "photographs"
        with pytest.raises(TypeError, match=r"`data_name`.*a `str`"):
            make_request(data_name=3)
