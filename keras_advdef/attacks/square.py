"""Square: random search over square patches, from logits alone."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import keras
import tensorflow as tf

from keras_advdef.attacks._bumps import bumps, mass_of, norm_of
from keras_advdef.attacks._early_stopping import run_slots
from keras_advdef.attacks._job import Job
from keras_advdef.attacks._success import is_broken, needs_confirmation
from keras_advdef.attacks.attack import MODEL_ARGUMENTS, Passes
from keras_advdef.attacks.stepped_attack import State, SteppedAttack
from keras_advdef.core import streams
from keras_advdef.core.errors import checked_integer
from keras_advdef.core.image_layout import (
    checked_data_format,
    from_channels_last,
    rows_and_cols,
    to_channels_last,
)
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.norms import NORMS, norm_per_image, per_image
from keras_advdef.core.predictions import logit_margin
from keras_advdef.core.random_numbers import fold_in, uniform
from keras_advdef.core.random_state import draw_scope

# The first squares cover this share of the image.
_FIRST_SHARE = 0.8
# The share is halved after these proposals, however many are allowed.
_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_SHORTEST_PATCH = 3
_TILES = 5
_TINY = 1e-12
# In l1, what the box cuts off is given to the rest this often.
_REFILLS = 3


@keras.saving.register_keras_serializable(package="keras_advdef")
class Square(SteppedAttack):
    """Random search over square patches that uses the logits only.

    Each proposal changes one square at a random place, whose side shrinks with the
    number of queries, and is kept if the logit margin rises (Andriushchenko et al.
    2020, with the sides of AutoAttack; in l1 as Croce and Hein 2021, "Mind the box").
    It needs no gradient, so it reveals gradient masking. Broken images stop, and leave
    `generate` early whatever `stop_early` is.

    Args:
        epsilon: Number of at least 0. Radius of the ball, in the units of
            `value_range`; `None` if each call gives it.
        queries: Proposals for each image, each one forward pass; the start is one more.
        **kwargs: `restarts`, `norm`, `targeted`, `training`, `precision` and
            `value_range`; see `SteppedAttack` and `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> def model(images):
    ...     return tf.reduce_mean(images, axis=(1, 2)) * [1.0, -1.0] + [-0.5, 0.4]
    >>> images = np.full((1, 8, 8, 1), 0.4, "float32")
    >>> attack = keras_advdef.attacks.Square(0.3, queries=50)
    >>> adversarial = attack.generate(model, images, [1], seed=0, verbose=0)
    >>> int(np.argmax(model(adversarial)))
    0
    """

    norms: ClassVar[tuple[str, ...]] = NORMS
    moving: ClassVar[tuple[str, ...]] = ("best", "best_loss", "broken", "loss")
    segment: ClassVar[int] = 50
    trace_arguments: ClassVar[dict[str, tuple[str, ...]]] = dict.fromkeys(
        ("start", "step", "settle"), (*MODEL_ARGUMENTS, "norm", "targeted")
    )

    # Steps are what `queries` says.
    settled: ClassVar[dict[str, Any]] = {"steps": None, "eot_samples": 1}

    def __init__(
        self, epsilon: float | None = None, *, queries: int = 5000, **kwargs: Any
    ) -> None:
        self.queries = checked_integer(type(self).__name__, "queries", queries, low=1)
        arguments = {**self.with_settled(kwargs), "steps": self.queries}
        super().__init__(epsilon, **arguments)

    def passes(self, classes: int, model: Any = None) -> Passes:
        """Returns what one image costs; see `Attack.passes`."""
        del model
        return Passes(self.runs(classes) * (self.queries + 1), 0)

    def init_state(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        key: tf.Tensor,
        run: tf.Tensor,
    ) -> State:
        """Returns the state of stripes or tiles; see `SteppedAttack.init_state`."""
        del run
        key = fold_in(key, streams.SQUARE_START)
        first = stripes
        if self.norm != "linf":
            first = functools.partial(tiles, norm=self.norm)
        iterate = _drawn(first, fold_in(key, 0), images, epsilon=epsilon)
        iterate = logits_fn.confined(iterate)
        losses, broken = self._evaluate(logits_fn, iterate, labels, fold_in(key, 1))
        return {
            "images": images,
            "labels": labels,
            "best": iterate,
            "best_loss": losses,
            "broken": broken,
            # Survives when a success, and `best_loss` with it, is taken back.
            "loss": losses,
        }

    def step(
        self,
        logits_fn: LogitsFunction,
        state: State,
        epsilon: tf.Tensor,
        key: tf.Tensor,
        taken: tf.Tensor,
    ) -> State:
        """Changes a square of the best point where that raises the loss."""
        propose = recolored_square
        if self.norm != "linf":
            propose = functools.partial(moved_mass, norm=self.norm)
        best = state["best"]
        clean, key_here = state["images"], fold_in(key, 0)
        proposal = _drawn(propose, key_here, clean, best, epsilon=epsilon, taken=taken)
        proposal = logits_fn.confined(proposal)
        losses, broken = self._evaluate(
            logits_fn, proposal, state["labels"], fold_in(key, 1)
        )
        is_better = losses > state["loss"]
        if not needs_confirmation(logits_fn):
            is_better &= ~state["broken"]
        wide = per_image(is_better, best)
        return {
            **state,
            "best": tf.where(wide, proposal, best),
            "best_loss": tf.where(is_better, losses, state["best_loss"]),
            "broken": state["broken"] | (broken & is_better),
            "loss": tf.where(is_better, losses, state["loss"]),
        }

    def repeat(
        self,
        logits_fn: LogitsFunction,
        state: State,
        epsilon: tf.Tensor,
        key: tf.Tensor,
        count: int,
        first: int = 0,
    ) -> State:
        """Returns the state `count` queries later, or when no image is left."""
        advance, stops_early = super().repeat, not needs_confirmation(logits_fn)
        if count <= self.segment:
            return advance(logits_fn, state, epsilon, key, count, first)

        def goes_on(taken: tf.Tensor, values: State) -> tf.Tensor:
            is_left = tf.reduce_any(~values["broken"]) if stops_early else True
            return (taken < count) & is_left

        def body(taken: tf.Tensor, values: State) -> tuple[tf.Tensor, State]:
            step = tf.cast(taken, tf.float32)
            current = {**state, **values, "step": step}
            fresh = fold_in(key, taken)
            moved = advance(logits_fn, current, epsilon, fresh, self.segment)
            return taken + self.segment, {name: moved[name] for name in self.moving}

        values = {name: state[name] for name in self.moving}
        _, values = tf.while_loop(
            goes_on, body, (tf.constant(0), values), parallel_iterations=1
        )
        return {**state, **values}

    def fill(self, job: Job, epsilon: tf.Tensor, *, stop_early: bool) -> None:
        """Fills the job's result; broken images always leave."""
        del stop_early
        run_slots(self, job, epsilon)

    def _evaluate(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        key: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the logit margin to maximise, and success."""
        with draw_scope(key):
            logits = logits_fn(images)
        losses = logit_margin(logits, labels, targeted=self.targeted)
        return losses, is_broken(logits, labels, self.targeted)

    def __str__(self) -> str:
        return f"Square-{self.queries}"


def _drawn(
    draw: Callable[..., tf.Tensor], key: tf.Tensor, *images: tf.Tensor, **how: Any
) -> tf.Tensor:
    """What is drawn on images, whose channels may come first."""
    data_format = checked_data_format("Square")
    seen = [to_channels_last(each, data_format) for each in images]
    return from_channels_last(draw(key, *seen, **how), data_format)


def side_length(rows: Any, cols: Any, taken: tf.Tensor, norm: str) -> tf.Tensor:
    """Returns the side of the squares after some proposals.

    Args:
        rows: Rows of an image, a float or a float32 scalar.
        cols: Its columns.
        taken: Proposals made before, float32, a scalar or `(batch,)`.
        norm: "linf", or another norm for odd sides of at least 3.

    Returns:
        Whole numbers as float32, `(1, 1)` or `(batch, 1)`, none longer than the image.

    Example:

    >>> keras_advdef.attacks.square.side_length(
    ...     28.0, 28.0, tf.constant([0.0, 10.0, 11.0, 9999.0]), "linf").numpy().ravel()
    array([25., 25., 18.,  1.], dtype=float32)
    """
    halved_after = tf.constant(_HALVED_AFTER, tf.float32)
    passed = tf.cast(tf.reshape(taken, [-1, 1]) > halved_after, tf.float64)
    share = _FIRST_SHARE * 0.5 ** tf.reduce_sum(passed, axis=1, keepdims=True)
    # In float64, so that what lies near a half is rounded as in the paper's code.
    area = tf.cast(rows, tf.float64) * tf.cast(cols, tf.float64)
    side = tf.cast(tf.maximum(tf.round(tf.sqrt(share * area)), 1.0), tf.float32)
    longest = tf.minimum(rows, cols)
    if norm != "linf":
        side, longest = _odd(tf.maximum(side, _SHORTEST_PATCH)), _odd(longest - 1.0)
    return tf.minimum(side, longest)


def _odd(values: Any) -> tf.Tensor:
    """Returns whole numbers, and one more than even ones."""
    return 2.0 * tf.floor(values / 2.0) + 1.0


def stripes(key: tf.Tensor, images: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
    """Moves each column and channel by plus or minus epsilon, the start for "linf".

    Args:
        key: Int64 tensor of shape `(2,)`.
        images: Clean images in `[0, 1]`, `(batch, rows, cols, channels)`.
        epsilon: Radius, a scalar or `(batch,)`.

    Returns:
        Tensor of the shape of `images`.

    Example:

    >>> key = keras_advdef.core.random_numbers.make_key(0)
    >>> images = tf.fill((1, 4, 4, 1), 0.5)
    >>> striped = keras_advdef.attacks.square.stripes(key, images, 0.25)
    >>> sorted(set(striped.numpy().ravel().tolist()))
    [0.25, 0.75]
    """
    batch, _, cols, channels = tf.unstack(tf.shape(images))
    sign = _signs(uniform(key, [batch, 1, cols, channels]))
    return tf.clip_by_value(images + per_image(epsilon, images) * sign, 0.0, 1.0)


def recolored_square(
    key: tf.Tensor,
    images: tf.Tensor,
    best: tf.Tensor,
    *,
    epsilon: tf.Tensor,
    taken: tf.Tensor,
) -> tf.Tensor:
    """Moves a square to plus or minus epsilon in each channel, the step for "linf".

    Args:
        key: Int64 tensor of shape `(2,)`.
        images: Clean images in `[0, 1]`, `(batch, rows, cols, channels)`.
        best: What to change, in the ball around `images`.
        epsilon: Radius, a scalar or `(batch,)`.
        taken: Proposals made before, float32, a scalar or `(batch,)`.

    Returns:
        Tensor of the shape of `images`.

    Example:

    >>> key = keras_advdef.core.random_numbers.make_key(0)
    >>> images = tf.fill((1, 8, 8, 1), 0.5)
    >>> moved = keras_advdef.attacks.square.recolored_square(
    ...     key, images, images, epsilon=0.25, taken=tf.constant(0.0))
    >>> int(tf.reduce_sum(tf.cast(moved != images, "int32")))
    49
    """
    (rows, cols), channels = rows_and_cols(images), images.shape[3]
    side = side_length(rows, cols, taken, "linf")
    draws = uniform(key, [tf.shape(images)[0], 2 + channels])
    down, along = draws[:, 0:1], draws[:, 1:2]
    window = _cross(
        _inside(_offsets(down, side, rows), side),
        _inside(_offsets(along, side, cols), side),
    )
    step = per_image(epsilon, images) * _signs(draws[:, None, None, 2:])
    # From inside the ball, a step of twice epsilon and a clip end here too.
    return tf.where(window, tf.clip_by_value(images + step, 0.0, 1.0), best)


def tiles(
    key: tf.Tensor, images: tf.Tensor, epsilon: tf.Tensor, *, norm: str = "l2"
) -> tf.Tensor:
    """Covers images by a five by five grid of patches, the start for "l2" and "l1".

    Args:
        key: Int64 tensor of shape `(2,)`.
        images: Clean images in `[0, 1]`, `(batch, rows, cols, channels)`.
        epsilon: Radius, a scalar or `(batch,)`.
        norm: "l2" or "l1".

    Returns:
        Tensor of the shape of `images`.

    Example:

    >>> key = keras_advdef.core.random_numbers.make_key(0)
    >>> images = tf.fill((1, 10, 10, 1), 0.5)
    >>> moved = keras_advdef.attacks.square.tiles(key, images, 0.5)
    >>> round(float(tf.norm(moved - images)), 5)
    0.5
    """
    (rows, cols), channels = rows_and_cols(images), images.shape[3]
    side = tf.maximum(tf.floor(tf.minimum(rows, cols) / _TILES), 1.0)
    (down, tile_down, count_down), (along, tile_along, count_along) = (
        _tiled(length, side) for length in (rows, cols)
    )
    draws = uniform(key, [tf.shape(images)[0], count_down, count_along, 1 + channels])
    draws = tf.gather(tf.gather(draws, tile_down, axis=1), tile_along, axis=2)
    upright, turned = (
        bumps(
            down[None],
            along[None],
            side=side[None, None],
            is_turned=tf.constant([[each]]),
            norm=norm,
        )
        for each in (False, True)
    )
    filled = tf.where(draws[..., :1] < 0.5, turned, upright) * _signs(draws[..., 1:])
    return _to_radius(images, filled, epsilon, norm)


def moved_mass(
    key: tf.Tensor,
    images: tf.Tensor,
    best: tf.Tensor,
    *,
    epsilon: tf.Tensor,
    taken: tf.Tensor,
    norm: str = "l2",
) -> tf.Tensor:
    """Moves what a window holds to a patch in another one: a step in "l2" and "l1".

    The first window becomes its own perturbation plus a random patch, the second one is
    emptied, and the first gets the norm of both, and what the box cut off.

    Args:
        key: Int64 tensor of shape `(2,)`.
        images: Clean images in `[0, 1]`, `(batch, rows, cols, channels)`.
        best: What to change, in the ball around `images`.
        epsilon: Radius, a scalar or `(batch,)`.
        taken: Proposals made before, float32, a scalar or `(batch,)`.
        norm: "l2" or "l1".

    Returns:
        Tensor of the shape of `images`.

    Example:

    >>> key = keras_advdef.core.random_numbers.make_key(0)
    >>> images = tf.fill((1, 8, 8, 1), 0.5)
    >>> moved = keras_advdef.attacks.square.moved_mass(
    ...     key, images, images, epsilon=0.5, taken=tf.constant(0.0))
    >>> round(float(tf.norm(moved - images)), 5)
    0.5
    """
    (rows, cols), channels = rows_and_cols(images), images.shape[3]
    side = side_length(rows, cols, taken, norm)
    draws = uniform(key, [tf.shape(images)[0], 5 + channels])
    down, along = (
        _offsets(draws[:, i : i + 1], side, length)
        for i, length in enumerate((rows, cols))
    )
    emptied = _cross(
        _inside(_offsets(draws[:, 2:3], side, rows), side),
        _inside(_offsets(draws[:, 3:4], side, cols), side),
    )
    window = _cross(_inside(down, side), _inside(along, side))
    is_turned = draws[:, 4:5] < 0.5
    filling = bumps(down, along, side=side, is_turned=is_turned, norm=norm)
    perturbation = best - images
    mass = mass_of(perturbation, norm)
    room = mass_of(per_image(epsilon, images), norm) - _total(mass, axes=(1, 2, 3))
    room = tf.maximum(room, 0.0) / channels
    both = _total(tf.where(window | emptied, mass, 0.0))
    own = norm_of(_total(tf.where(window, mass, 0.0)), norm)
    mixed = filling * _signs(draws[:, None, None, 5:])
    mixed += tf.where(window, perturbation, 0.0) / (own + _TINY)
    size = tf.maximum(norm_of(_total(mass_of(mixed, norm)), norm), _TINY)
    mixed *= norm_of(room + both, norm) / size
    rest = tf.where(window | emptied, 0.0, perturbation)
    return _to_radius(images, rest + mixed, epsilon, norm)


def _signs(draws: tf.Tensor) -> tf.Tensor:
    return tf.where(draws < 0.5, -1.0, 1.0)


def _offsets(draws: tf.Tensor, side: tf.Tensor, length: Any) -> tf.Tensor:
    """Returns each pixel's place in a window put at random, `(batch, length)`."""
    first = tf.floor(draws * (length - side + 1.0))
    return tf.range(length) - first


def _tiled(length: Any, side: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Cuts an axis into tiles, with margins where they do not fill it.

    Args:
        length: Pixels of the axis.
        side: Those of a tile.

    Returns:
        Each pixel's place in its tile, negative in the margins, and which tile it is,
        both `(length,)`; and how many tiles there are.
    """
    count = tf.floor(length / side)
    places = tf.range(length) - tf.floor((length - count * side) / 2.0)
    tile = tf.clip_by_value(tf.floor(places / side), 0.0, count - 1.0)
    offsets = places - tile * side
    return offsets, tf.cast(tile, tf.int32), tf.cast(count, tf.int32)


def _inside(offsets: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    return (offsets >= 0.0) & (offsets < side)


def _cross(down: tf.Tensor, along: tf.Tensor) -> tf.Tensor:
    return down[:, :, None, None] & along[:, None, :, None]


def _total(values: tf.Tensor, axes: tuple[int, ...] = (1, 2)) -> tf.Tensor:
    return tf.reduce_sum(values, axes, keepdims=True)


def _to_radius(
    images: tf.Tensor, perturbation: tf.Tensor, epsilon: tf.Tensor, norm: str
) -> tf.Tensor:
    """Scales perturbations to the edge of the ball, and cuts off what leaves the box.

    In l1, images have many pixels at the ends of the range, where half of every patch
    would be lost: the rest grows instead.
    """
    for refill in range(_REFILLS if norm == "l1" else 1):
        if refill:
            perturbation = tf.clip_by_value(images + perturbation, 0.0, 1.0) - images
        size = per_image(norm_per_image(perturbation, norm), images)
        perturbation *= per_image(epsilon, images) / tf.maximum(size, _TINY)
    return tf.clip_by_value(images + perturbation, 0.0, 1.0)
