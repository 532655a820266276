import keras
import pytest
import tensorflow as tf

from keras_advdef.training._check_distribution import check_distribution


def compiled(**options):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", **options)
    return model


def test_a_single_replica_takes_all_options():
    check_distribution(compiled(jit_compile=True, steps_per_execution=2))


@pytest.mark.parametrize(
    ("options", "name"),
    [({"jit_compile": True}, "jit_compile"), ({"steps_per_execution": 2}, "steps_per")],
)
def test_several_replicas_do_not(options, name):
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = compiled(**{"jit_compile": False, **options})
    with pytest.raises(ValueError, match=f"`Sequential` expects `{name}"):
        check_distribution(model)
