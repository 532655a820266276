"""Generators: checks of a generator and its critic, and the search in latent space."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import invalid
from keras_advdef.core.gradients import input_gradient
from keras_advdef.core.keras_private import has_graph
from keras_advdef.core.loops import fixed_loop
from keras_advdef.core.random_numbers import fold_in, normal

_LATENT_RANK = 2
_IMAGE_RANK = 4
# Largest number of pixel values generated at once.
_VALUES = 2**19
# Latents and their reconstruction errors.
_Points = tuple[tf.Tensor, tf.Tensor]


def _checked_graph(owner: str, argument: str, model: object) -> None:
    if not has_graph(model):
        rule = "a built `keras.Sequential` or functional model"
        advice = "Start it with a `keras.Input`."
        raise invalid(owner, argument, rule, model, advice=advice)


def _one_tensor(shape: object) -> bool:
    """Returns whether a model's shape belongs to a single tensor."""
    return isinstance(shape, tuple) and all(
        size is None or isinstance(size, int) for size in shape
    )


def latent_shapes(
    owner: str, generator: keras.Model
) -> tuple[int, tuple[int, int, int]]:
    """Returns the input and output size of a generator, or raises if it is not one.

    Args:
        owner: Name of the class that takes the generator.
        generator: A built Sequential or functional model from latents
            `(batch, latent_dim)` to images `(batch, rows, cols, channels)`.

    Returns:
        Number of latents, and rows, columns and channels of an image.

    Raises:
        ValueError: If the model has no graph or its shapes are invalid.

    Example:

    >>> generator = keras.Sequential([
    ...     keras.Input((5,)), keras.layers.Dense(12), keras.layers.Reshape((2, 2, 3))])
    >>> keras_advdef.core.generators.latent_shapes("DefenseGAN", generator)
    (5, (2, 2, 3))
    """
    _checked_graph(owner, "generator", generator)
    latents, images = generator.input_shape, generator.output_shape
    if not _one_tensor(latents) or len(latents) != _LATENT_RANK or latents[-1] is None:
        rule = "a model of latents (batch, latent_dim) of known size"
        raise invalid(owner, "generator", rule, latents)
    is_image = _one_tensor(images) and len(images) == _IMAGE_RANK
    if not is_image or None in images[1:]:
        rule = "a model that returns images (batch, rows, cols, channels) of known size"
        raise invalid(owner, "generator", rule, images)
    return latents[-1], images[1:]


def check_critic(
    owner: str, critic: keras.Model, image_shape: tuple[int, int, int]
) -> None:
    """Raises if a model does not score each image of a generator by one number.

    Args:
        owner: Name of the class that takes the critic.
        critic: A built Sequential or functional model from images to `(batch, 1)`.
        image_shape: Rows, columns and channels of the generator's images.

    Raises:
        ValueError: If the model has no graph, expects other images, or does not end in
            one unit.

    Example:

    >>> critic = keras.Sequential([
    ...     keras.Input((2, 2, 3)), keras.layers.Flatten(), keras.layers.Dense(1)])
    >>> keras_advdef.core.generators.check_critic("DefenseGAN", critic, (2, 2, 3))
    """
    _checked_graph(owner, "critic", critic)
    taken, given = critic.input_shape, critic.output_shape
    fits = _one_tensor(taken) and len(taken) == _IMAGE_RANK
    pairs = zip(taken[1:], image_shape, strict=True) if fits else ()
    if not fits or any(size not in (None, wanted) for size, wanted in pairs):
        rule = f"a model of the generator's images, (batch, {_listed(image_shape)})"
        raise invalid(owner, "critic", rule, taken)
    if given not in ((None, 1), (taken[0], 1)):
        rule = "a model that ends in one unit, (batch, 1)"
        advice = "End it with `keras.layers.Dense(1)`."
        raise invalid(owner, "critic", rule, given, advice=advice)


def _listed(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


class Projections(NamedTuple):
    """The nearest generated images found by a search.

    Attributes:
        latents: Their latents, `(batch, latent_dim)`.
        images: The generated images, `(batch, rows, cols, channels)`.
        errors: Mean squared difference of the pixels, `(batch,)`.
    """

    latents: tf.Tensor
    images: tf.Tensor
    errors: tf.Tensor


def latent_search(
    generate: Callable[[tf.Tensor], tf.Tensor],
    images: tf.Tensor,
    key: tf.Tensor,
    *,
    latent_dim: int,
    steps: int,
    restarts: int,
    learning_rate: float,
    momentum: float,
    chunk: int | None = None,
) -> Projections:
    """Returns the nearest generated image for each image, by gradient descent.

    From random starts, it minimises each image's own mean squared error with momentum.
    The result is the best point of all paths, starts included, so it is never worse
    than the best start. Starts are normals of variance `1 / latent_dim`. Restart r has
    the same start whatever the number of restarts and the chunk size, so more restarts
    are never worse, up to rounding. A diverging start does not affect the others.

    Args:
        generate: Maps float32 latents `(rows, latent_dim)` to images.
        images: Float32 tensor `(batch, rows, cols, channels)`.
        key: Int64 tensor of shape `(2,)`, for the starts.
        latent_dim: Length of a latent.
        steps: Steps from each start.
        restarts: Starts per image, a Python integer.
        learning_rate: Factor on the gradient of the mean squared error; 10 suits
            images in `[0, 1]`.
        momentum: Share of the last step that is added to the next.
        chunk: Restarts that run in parallel; `None` to bound the memory.

    Returns:
        A `Projections`.

    Example:

    >>> from keras_advdef.core.generators import latent_search
    >>> from keras_advdef.core.random_numbers import make_key
    >>> found = latent_search(
    ...     lambda latents: tf.reshape(latents, (-1, 1, 2, 1)),
    ...     tf.constant([[[[0.3], [0.7]]]]), make_key(0), latent_dim=2,
    ...     steps=50, restarts=2, learning_rate=0.5, momentum=0.5)
    >>> found.latents.numpy().round(3)
    array([[0.3, 0.7]], dtype=float32)
    """
    count = images.shape[0] or tf.shape(images)[0]
    chunk = _fitting(images, count, restarts) if chunk is None else chunk
    keys = [fold_in(key, restart) for restart in range(restarts)]
    drawn = tf.stack([normal(each, [count, latent_dim]) for each in keys])
    starts = drawn * latent_dim**-0.5
    targets = tf.tile(images, [chunk, 1, 1, 1])

    def search(index: tf.Tensor, best: _Points) -> tuple[tf.Tensor, _Points]:
        # The last chunk starts early, so that all have the same size.
        first = tf.minimum(index * chunk, restarts - chunk)
        latents = tf.slice(starts, [first, 0, 0], [chunk, count, latent_dim])
        points = _descended(
            lambda each: mean_squares(generate(each), targets),
            tf.reshape(latents, [-1, latent_dim]),
            steps=steps,
            learning_rate=learning_rate,
            momentum=momentum,
            scale=float(images.shape[1:].num_elements()),
        )
        found = _nearest(
            tf.reshape(points[0], [chunk, count, latent_dim]),
            tf.reshape(points[1], [chunk, count]),
        )
        return index + 1, _nearer(found, best)

    chunks = -(-restarts // chunk)
    _, (latents, _) = tf.while_loop(
        lambda index, best: index < chunks,
        search,
        (tf.constant(0), (starts[0], tf.fill([count], np.inf))),
        parallel_iterations=1,
        maximum_iterations=restarts,
    )
    made = tf.ensure_shape(generate(latents), images.shape)
    return Projections(latents, made, mean_squares(made, images))


def mean_squares(images: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Returns the mean squared difference of each image's pixels, `(batch,)`.

    Args:
        images: Float32 tensor `(batch, rows, cols, channels)`.
        others: The same.

    Example:

    >>> from keras_advdef.core.generators import mean_squares
    >>> float(mean_squares(tf.zeros((1, 2, 2, 1)), tf.fill((1, 2, 2, 1), 0.5))[0])
    0.25
    """
    return tf.reduce_mean(tf.square(images - others), axis=[1, 2, 3])


def _fitting(
    images: tf.Tensor, count: int | tf.Tensor, restarts: int
) -> int | tf.Tensor:
    """Returns how many restarts run in parallel; a tensor if `count` is one."""
    most = max(1, _VALUES // images.shape[1:].num_elements())
    if isinstance(count, int):
        return min(max(1, most // count), restarts)
    return tf.clip_by_value(most // tf.maximum(count, 1), 1, restarts)


def _descended(
    errors_of: Callable[[tf.Tensor], tf.Tensor],
    latents: tf.Tensor,
    *,
    steps: int,
    learning_rate: float,
    momentum: float,
    scale: float,
) -> _Points:
    """Returns the best point of each row's path, and its error."""

    def step(index: int | tf.Tensor, state: tuple[Any, ...]) -> tuple[Any, ...]:
        del index
        latents, velocity, best = state
        # Summed over pixels, gradients of a float16 generator do not vanish.
        errors, _, slope = input_gradient(
            lambda each: (errors_of(each), None), latents, scale=scale
        )
        velocity = momentum * velocity - learning_rate * slope
        return latents + velocity, velocity, _nearer((latents, errors), best)

    nothing = latents, tf.fill(tf.shape(latents)[:1], np.inf)
    state = (latents, tf.zeros_like(latents), nothing)
    latents, _, best = fixed_loop(step, state, steps, unroll=False)
    return _nearer((latents, errors_of(latents)), best)


def _nearer(new: _Points, old: _Points) -> _Points:
    """Returns the better point of each row; non-finite errors never win."""
    better = new[1] < old[1]
    latents = tf.where(better[:, None], new[0], old[0])
    return latents, tf.where(better, new[1], old[1])


def _nearest(latents: tf.Tensor, errors: tf.Tensor) -> _Points:
    """Returns each image's best restart, over the first axis."""
    first = tf.argmin(errors, axis=0)
    latents = tf.gather(tf.transpose(latents, [1, 0, 2]), first, batch_dims=1)
    return latents, tf.reduce_min(errors, axis=0)
