import keras
import pytest

from keras_advdef.core.keras_private import own_policy, policies_of_thread
from tests.support.threads import in_other_thread


class TestPoliciesOfThread:
    def test_only_this_thread_sees_them(self):
        layer, other = keras.layers.Dense(1), keras.layers.Dense(1)
        own = layer.dtype_policy

        def names():
            return layer.dtype_policy.name, layer.compute_dtype, layer.variable_dtype

        with policies_of_thread([(layer, "mixed_bfloat16")]):
            assert names() == ("mixed_bfloat16", "bfloat16", "float32")
            assert in_other_thread(names) == ("float32", "float32", "float32")
            assert other.compute_dtype == "float32"
            assert own_policy(layer) is own
        assert layer.dtype_policy is own

    def test_one_within_another(self):
        layer, other = keras.layers.Dense(1), keras.layers.Dense(1)
        with policies_of_thread([(layer, "mixed_bfloat16")]):
            with policies_of_thread([(layer, "float32"), (other, "mixed_float16")]):
                assert layer.compute_dtype == "float32"
                assert other.compute_dtype == "float16"
            assert layer.compute_dtype == "bfloat16"
            assert other.compute_dtype == "float32"

    def test_an_error_ends_them(self):
        layer = keras.layers.Dense(1)
        with pytest.raises(KeyError), policies_of_thread([(layer, "mixed_bfloat16")]):
            raise KeyError
        assert layer.compute_dtype == "float32"

    def test_a_policy_set_meanwhile_is_the_layers_own(self):
        layer = keras.layers.Dense(1)
        with policies_of_thread([(layer, "mixed_bfloat16")]):
            layer.dtype_policy = "mixed_float16"
            assert layer.compute_dtype == "bfloat16"
        assert layer.compute_dtype == "float16"


def test_half_made_layers_have_none():
    layer = object.__new__(keras.layers.Dense)
    with pytest.raises(AttributeError, match="_dtype_policy"):
        layer._dtype_policy  # noqa: B018
