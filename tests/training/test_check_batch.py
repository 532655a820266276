import keras
import numpy as np
import pytest

from keras_advdef.attacks import FGSM
from keras_advdef.layers import BitDepthReduction
from keras_advdef.training._check_batch import check_batch
from tests.support.nets import small_net

_ATTACKS = [FGSM(0.1), FGSM(8.0, value_range=(0, 255))]


class TestCheckBatch:
    def test_the_range_of_every_attack_counts(self, images, labels):
        check_batch("fit", small_net(), _ATTACKS[:1], images, labels)
        with pytest.raises(ValueError, match=r"`fit` expects `images`.*\[0, 1\]"):
            check_batch("fit", small_net(), _ATTACKS[::-1], 255 * images, labels)
        with pytest.warns(UserWarning, match=r"`fit` got images between.*\(0, 255\)"):
            check_batch("fit", small_net(), _ATTACKS, images, labels)

    @pytest.mark.parametrize(("units", "classes"), [(1, 2), (3, 3)])
    def test_labels_are_classes_of_the_model(self, units, classes, images):
        net = keras.Sequential(
            [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(units)]
        )
        labels = np.arange(6) % classes
        check_batch("fit", net, _ATTACKS[:1], images, labels)
        with pytest.raises(ValueError, match=rf"in \[0, {classes}\)"):
            check_batch("fit", net, _ATTACKS[:1], images, labels + 1)

    def test_an_epsilon_in_the_units_of_another_range_is_told(self, images, labels):
        attack = FGSM(8 / 255, value_range=(0, 255))
        with pytest.warns(UserWarning, match="`fit`.*Did you mean 8, in the units"):
            check_batch("fit", small_net(), [attack], 255 * images, labels)

    def test_layers_of_another_range_tell(self, images, labels):
        net = small_net(front=[BitDepthReduction(3, name="bits")])
        with pytest.warns(UserWarning, match="`bits`.*met 2"):
            check_batch("fit", net, _ATTACKS[1:], 255 * images, labels)
        # Once.
        check_batch("fit", net, _ATTACKS[1:], 255 * images, labels)
