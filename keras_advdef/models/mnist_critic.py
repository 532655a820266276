"""mnist_critic: the critic that trains Defense-GAN's generator for MNIST."""

import keras

from keras_advdef.core.errors import checked_integer


def mnist_critic(width: int = 64) -> keras.Sequential:
    """Returns the critic of Defense-GAN for MNIST, with new weights.

    Three 5 x 5 convolutions of stride 2 with 1, 2 and 4 times `width` channels and
    leaky rectifiers, and one linear unit. There is no batch normalisation, because the
    gradient penalty is defined for single images. At the default width the net has
    1,030,145 weights, like the paper's.

    Args:
        width: Channels after the first convolution, at least 1.

    Returns:
        A `keras.Sequential` from images `(batch, 28, 28, 1)` in `[0, 1]` to float32
        scores `(batch, 1)`.

    Raises:
        ValueError: If `width` is not an integer of at least 1.

    Paper: Samangouei, Kabkab, Chellappa: Defense-GAN: Protecting Classifiers Against
    Adversarial Attacks Using Generative Models, ICLR 2018.

    Example:

    >>> critic = keras_advdef.models.mnist_critic(width=2)
    >>> critic(np.zeros((5, 28, 28, 1))).shape
    TensorShape([5, 1])
    """
    checked_integer("mnist_critic", "width", width, low=1)
    blocks = [_downsampling(times * width) for times in (1, 2, 4)]
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *(layer for block in blocks for layer in block),
            keras.layers.Flatten(),
            keras.layers.Dense(1, dtype="float32"),
        ],
        name="mnist_critic",
    )


def _downsampling(channels: int) -> list[keras.layers.Layer]:
    # Variance 4 / (fan in + fan out), for convolutions before a rectifier.
    initializer = keras.initializers.VarianceScaling(
        2.0, mode="fan_avg", distribution="uniform"
    )
    convolution = keras.layers.Conv2D(
        channels, 5, strides=2, padding="same", kernel_initializer=initializer
    )
    return [convolution, keras.layers.LeakyReLU(negative_slope=0.2)]
