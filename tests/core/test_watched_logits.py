import tensorflow as tf

from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.watched_logits import watched

IMAGES = tf.ones((1, 2))
DOUBLE = LogitsFunction(lambda images: 2.0 * images)


def test_only_the_very_tensor_counts():
    with watched(IMAGES) as looks:
        DOUBLE(IMAGES + 0.0)
        assert looks == []
        logits = DOUBLE(IMAGES)
    (look,) = looks
    assert look[0] is DOUBLE
    assert look[1] is logits
    DOUBLE(IMAGES)
    assert len(looks) == 1


def test_the_inner_one_watches_alone():
    other = tf.zeros((1, 2))
    with watched(IMAGES) as outer:
        with watched(other) as inner:
            DOUBLE(IMAGES)
            DOUBLE(other)
        DOUBLE(IMAGES)
    assert len(outer) == len(inner) == 1


def test_logits_of_a_loop_stay_there():
    @tf.function
    def call(images):
        with watched(images) as looks:
            tf.while_loop(
                lambda index, total: index < 2,
                lambda index, total: (index + 1, total + DOUBLE(images)),
                (tf.constant(0), tf.zeros_like(images)),
            )
            count = len(looks)
            DOUBLE(images)
        assert (count, len(looks)) == (0, 1)
        return looks[0][1]

    assert call(IMAGES).numpy().tolist() == [[2.0, 2.0]]
