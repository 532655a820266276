"""The shapes of a generator and of the critic that judges its images."""

from typing import Any

from keras_advdef.core.errors import invalid
from keras_advdef.core.keras_private import has_graph

_LATENT_RANK = 2
_IMAGE_RANK = 4


def _checked_graph(owner: str, argument: str, model: Any) -> None:
    if not has_graph(model):
        rule = "a built `keras.Sequential` or functional model"
        advice = "Start it with a `keras.Input`."
        raise invalid(owner, argument, rule, model, advice=advice)


def _one_tensor(shape: Any) -> bool:
    """Returns whether a model's shape is that of one tensor, not of several."""
    return isinstance(shape, tuple) and all(
        size is None or isinstance(size, int) for size in shape
    )


def latent_shapes(owner: str, generator: Any) -> tuple[int, tuple[int, int, int]]:
    """Returns what a generator takes and gives, or raises if it is no generator.

    Args:
        owner: Name of the class that takes the generator.
        generator: A built Sequential or functional model from latents
            `(batch, latent_dim)` to images `(batch, rows, cols, channels)`.

    Returns:
        Number of latents, and rows, columns and channels of an image.

    Raises:
        ValueError: If the model has no graph or other shapes.

    Example:

    >>> generator = keras.Sequential([
    ...     keras.Input((5,)), keras.layers.Dense(12), keras.layers.Reshape((2, 2, 3))])
    >>> keras_advdef.core.latent_shapes.latent_shapes("DefenseGAN", generator)
    (5, (2, 2, 3))
    """
    _checked_graph(owner, "generator", generator)
    latents, images = generator.input_shape, generator.output_shape
    if not _one_tensor(latents) or len(latents) != _LATENT_RANK or latents[-1] is None:
        rule = "a model of latents (batch, latent_dim) of known size"
        raise invalid(owner, "generator", rule, latents)
    is_image = _one_tensor(images) and len(images) == _IMAGE_RANK
    if not is_image or None in images[1:]:
        rule = "a model that gives images (batch, rows, cols, channels) of known size"
        raise invalid(owner, "generator", rule, images)
    return latents[-1], images[1:]


def check_critic(owner: str, critic: Any, image_shape: tuple[int, int, int]) -> None:
    """Raises if a model cannot judge a generator's images by one number each.

    Args:
        owner: Name of the class that takes the critic.
        critic: A built Sequential or functional model from images to `(batch, 1)`.
        image_shape: Rows, columns and channels of the generator's images.

    Raises:
        ValueError: If the model has no graph, takes other images, or does not end in
            one unit.

    Example:

    >>> critic = keras.Sequential([
    ...     keras.Input((2, 2, 3)), keras.layers.Flatten(), keras.layers.Dense(1)])
    >>> keras_advdef.core.latent_shapes.check_critic("DefenseGAN", critic, (2, 2, 3))
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
