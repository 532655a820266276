"""mnist_generator: Defense-GAN's generator of 28x28 grey images."""

import keras

from keras_advdef.core.errors import checked_integer


def mnist_generator(width: int = 64, *, latent_dim: int = 128) -> keras.Sequential:
    """Returns the generator of Defense-GAN for MNIST, with new weights.

    A dense layer and three transposed 5 x 5 convolutions of stride 2, with 4, 2 and 1
    times `width` channels, no batch normalisation, a sigmoid at the end. At the default
    width the net has 1,554,177 weights, like the paper's. Training draws its latents
    from N(0, 1).

    Args:
        width: Channels before the last convolution, at least 1.
        latent_dim: Number of latents of an image, at least 1.

    Returns:
        A `keras.Sequential` from latents `(batch, latent_dim)` to float32 images
        `(batch, 28, 28, 1)` in `[0, 1]`.

    Raises:
        ValueError: If an argument is not an integer of at least 1.

    Paper: Samangouei, Kabkab, Chellappa: Defense-GAN: Protecting Classifiers Against
    Adversarial Attacks Using Generative Models, ICLR 2018.

    Example:

    >>> generator = keras_advdef.models.mnist_generator(width=2, latent_dim=3)
    >>> generator(np.zeros((5, 3))).shape
    TensorShape([5, 28, 28, 1])
    """
    owner = "mnist_generator"
    checked_integer(owner, "width", width, low=1)
    checked_integer(owner, "latent_dim", latent_dim, low=1)
    return keras.Sequential(
        [
            keras.Input((latent_dim,)),
            keras.layers.Dense(64 * width, activation="relu"),
            keras.layers.Reshape((4, 4, 4 * width)),
            _upsampling(2 * width),
            keras.layers.ReLU(),
            # From 8 to 7 pixels, so that two more doublings give 28.
            keras.layers.Cropping2D(((0, 1), (0, 1))),
            _upsampling(width),
            keras.layers.ReLU(),
            _upsampling(1),
            # In half precision pixels could take few values.
            keras.layers.Activation("sigmoid", dtype="float32"),
        ],
        name="mnist_generator",
    )


def _upsampling(channels: int) -> keras.layers.Layer:
    # Variance 4 / (fan in + fan out), for convolutions before a rectifier.
    initializer = keras.initializers.VarianceScaling(
        2.0, mode="fan_avg", distribution="uniform"
    )
    return keras.layers.Conv2DTranspose(
        channels, 5, strides=2, padding="same", kernel_initializer=initializer
    )
