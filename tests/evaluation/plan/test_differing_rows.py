import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.logits import LogitsFunction
from keras_advdef.evaluation._plan.differing_rows import (
    differences,
    differing_rows,
    rounding_share,
)
from tests.support.nets import small_net

_Z = np.array([[1.0, 3.0, -2.0], [0.5, 0.0, 0.1]], "float32")
_INF = np.inf


class TestDifferingRows:
    @pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e6, 1e36])
    @pytest.mark.parametrize("offset", [0.0, 10.0, -100.0])
    def test_at_every_scale_and_offset(self, scale, offset):
        logits = np.float32(scale) * (_Z + np.float32(offset))
        noise = np.random.default_rng(0).normal(size=(5, *_Z.shape))
        for rows in noise:
            random = (logits + 0.01 * scale * rows).astype("float32")
            assert differing_rows(logits, random, 1e-4).all()
            # Two units of float32.
            rounded = logits * np.float32(1.0 + 2.4e-7 * np.sign(rows))
            assert not differing_rows(logits, rounded, 1e-4).any()

    def test_large_logits_of_one_image_hide_no_noise_of_another(self):
        logits = np.concatenate([1e9 * _Z, _Z])
        noisy = logits + 0.01 * np.eye(4, 3)
        assert differing_rows(logits, noisy, 1e-4).tolist() == [0, 0, 1, 0]
        assert differing_rows(logits, noisy[:, ::-1], 1e-4).all()

    @pytest.mark.parametrize(
        ("first", "again", "differs"),
        [
            ([-_INF, 1.0, 2.0], [-_INF, 1.0, 2.0], False),
            ([-_INF, 1.0, 2.0], [-_INF, 1.0, 2.1], True),
            ([-_INF, 1.0, 2.0], [-1e9, 1.0, 2.0], True),
            ([np.nan, 1.0, 2.0], [np.nan, 1.0, 2.0], False),
            ([np.nan, 1.0, 2.0], [0.0, 1.0, 2.0], True),
            ([0.0, 1.0, 2.0], [np.nan, 1.0, 2.0], True),
            ([_INF, _INF, -_INF], [_INF, _INF, -_INF], False),
            ([_INF, _INF, -_INF], [_INF, -_INF, -_INF], True),
            ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], False),
            ([0.0, 0.0, 0.0], [0.0, 1e-20, 0.0], True),
        ],
    )
    def test_of_special_numbers(self, first, again, differs):
        found = differing_rows(np.array([first]), np.array([again]), 1e-4)
        assert found.tolist() == [differs]


def test_differences():
    again = _Z + np.array([[0.0, 0.0, -0.25], [0.0, 0.0, 0.0]], "float32")
    assert differences(_Z, again).tolist() == [0.25, 0.0]
    assert differences(np.array([[1.0]]), np.array([[np.nan]])).tolist() == [_INF]


class TestRoundingShare:
    def test_of_the_coarsest_layer(self):
        half = keras.layers.Dense(3, dtype="mixed_float16")
        coarse = keras.layers.Dense(3, dtype="mixed_bfloat16")
        net = small_net()
        shares = [rounding_share(net)]
        shares += [rounding_share(keras.Sequential([net, each])) for each in (half,)]
        shares += [rounding_share(keras.Sequential([net, half, coarse]))]
        assert shares == [1e-4, 2.0**-9, 1e-2]
        assert rounding_share(len) == 1e-4

    @pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
    @pytest.mark.parametrize("mode", ["eager", "compiled"])
    def test_honest_nets_are_not_random(self, policy, mode, images):
        keras.config.set_dtype_policy(policy)
        try:
            net = small_net()
        finally:
            keras.config.set_dtype_policy("float32")
        run = LogitsFunction(net)
        if mode == "compiled":
            run = tf.function(run, jit_compile=True)
        first, share = run(images).numpy(), rounding_share(net)
        for _ in range(3):
            again = run(tf.constant(images)).numpy()
            assert not differing_rows(first, again, share).any()
        # Ten times the tolerance is noise.
        reach = 10.0 * share * (first.max(axis=1) - first.min(axis=1))
        noisy = first + reach[:, None] * [[1.0, 0.0, 0.0]]
        assert differing_rows(first, noisy, share).all()
