"""Attack: base of all attacks."""

import inspect
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.attacks._guard import (
    check_clean,
    check_eager,
    given_or_predicted,
    kept_in_ball,
)
from keras_advdef.attacks._job import Job
from keras_advdef.attacks._success import confirm
from keras_advdef.core.errors import (
    checked_choice,
    checked_integer,
    invalid,
    wrong_type,
)
from keras_advdef.core.image_source import load_images
from keras_advdef.core.logits import LogitsFunction, watch_logits
from keras_advdef.core.model_inputs import add_channels, single_input
from keras_advdef.core.norms import NORMS
from keras_advdef.core.pixel_mask import checked_mask
from keras_advdef.core.precision import PRECISIONS
from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.replicas import Replicas
from keras_advdef.core.value_range import (
    ValueRange,
    checked_epsilon,
    warn_small_epsilon,
)

# Arguments that say how an attack calls the model.
MODEL_ARGUMENTS = ("training", "precision", "value_range")


class Passes(NamedTuple):
    """Most passes of the model that an attack may take for one image.

    Args:
        forward: Forward passes.
        backward: Backward passes.

    Example:

    >>> keras_advdef.attacks.PGD(0.1, steps=40, restarts=5).passes(10)
    Passes(forward=205, backward=200)
    """

    forward: int
    backward: int


class Attack:
    """Base of the attacks: a configuration that can be called on tensors in any graph.

    A subclass writes `perturb`. The base keeps the result in the value range and within
    `reach(epsilon)`, which is epsilon for all attacks but those to train on, leaves all
    variables of the model alone, and gives the same images for the same seed. Epsilon
    may be a tensor, so that a schedule can change it without retracing.

    Args:
        epsilon: Number of at least 0. Radius of the ball, in the units of
            `value_range`; `None` if each call gives it.
        norm: "linf", "l2" or "l1".
        targeted: Whether to reach the `target_labels` of the call instead of leaving
            the labels.
        training: Whether to call the model with `training=True` while crafting. Its
            moving averages never change.
        precision: "float32", or "bfloat16" for faster passes on processors with
            bfloat16 units; see `core.precision`. Success is always measured in float32.
        eot_samples: Draws of a random model over which gradients and logits are
            averaged (EOT).
        value_range: Pair `(low, high)`, the range of the pixels.
        **unknown: Any other argument raises an error that lists the valid ones.

    Raises:
        ValueError: If an argument is outside its bounds.
        TypeError: If there is no such argument.

    Example:

    >>> attack = keras_advdef.attacks.FGSM(0.1)
    >>> model = keras.Sequential([
    ...     keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    >>> attack(model, np.full((1, 2, 2, 1), 0.5), [0], seed=0).shape
    TensorShape([1, 2, 2, 1])
    """

    norms: ClassVar[tuple[str, ...]] = NORMS
    # Arguments of the bases that users of a subclass cannot give, and their values.
    settled: ClassVar[dict[str, Any]] = {}
    # Constructor arguments on which each compiled function depends, where it is not all
    # but epsilon; see `_compiled_attack`.
    trace_arguments: ClassVar[dict[str, tuple[str, ...]]] = {
        "logits": MODEL_ARGUMENTS,
        "confirm": (*MODEL_ARGUMENTS, "targeted", "eot_samples"),
    }
    # Whether some pixels can be left out by a mask.
    takes_mask: bool = True
    # Whether results may lie outside the ball of epsilon: to train on, not to evaluate.
    leaves_ball: bool = False
    # Whether `perturb` also takes rows of probabilities for labels.
    takes_rows = False

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        norm: str = "linf",
        targeted: bool = False,
        training: bool = False,
        precision: str = "float32",
        eot_samples: int = 1,
        value_range: tuple[float, float] = (0.0, 1.0),
        **unknown: Any,
    ) -> None:
        for name, value in unknown.items():
            raise self._refusal(name, value)
        owner = type(self).__name__
        self.value_range = ValueRange.parse(owner, value_range)
        self.norm = checked_choice(owner, "norm", norm, self.norms)
        self.precision = checked_choice(owner, "precision", precision, PRECISIONS)
        self.epsilon = self.checked_epsilon(epsilon)
        self.targeted = bool(targeted)
        self.training = bool(training)
        self.eot_samples = checked_integer(owner, "eot_samples", eot_samples, low=1)

    @classmethod
    def arguments(cls) -> tuple[str, ...]:
        """Returns the names of the constructor's arguments, those of its bases too.

        Example:

        >>> keras_advdef.attacks.JSMA.arguments()[:4]
        ('epsilon', 'theta', 'gamma', 'targeted')
        """
        names: dict[str, None] = {}
        for each in cls.__mro__:
            if "__init__" in vars(each):
                parameters = inspect.signature(each).parameters.values()
                names.update(
                    (parameter.name, None)
                    for parameter in parameters
                    if parameter.kind is not parameter.VAR_KEYWORD
                )
                takes_more = any(p.kind is p.VAR_KEYWORD for p in parameters)
                if each is Attack or not takes_more:
                    break
        return tuple(name for name in names if name not in cls.settled)

    @classmethod
    def with_settled(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Returns arguments for the base, with those that this class settles.

        Args:
            given: What the user gave for the bases.

        Raises:
            TypeError: If one of them is settled.
        """
        for name, value in given.items():
            if name in cls.settled:
                raise cls._refusal(name, value)
        return {**given, **cls.settled}

    @classmethod
    def _refusal(cls, name: str, value: Any) -> TypeError:
        advice = f"Its arguments are {', '.join(cls.arguments())}."
        return wrong_type(cls.__name__, name, "left out", value, advice=advice)

    def checked_epsilon(self, epsilon: Any) -> float | None:
        """Returns a concrete epsilon as a float, or raises if it is out of range.

        Args:
            epsilon: Number of at least 0, or `None`.
        """
        if epsilon is None:
            return None
        owner = type(self).__name__
        return checked_epsilon(owner, epsilon, self.value_range, norm=self.norm)

    def perturb(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Returns adversarial images in `[0, 1]`.

        Args:
            logits_fn: The attacked model.
            images: Clean images, float32 in `[0, 1]`, `(batch, rows, cols, channels)`.
            labels: Integer labels `(batch,)` to leave or, if targeted, to reach; may be
                probabilities `(batch, classes)` with `takes_rows`.
            epsilon: Radius on the `[0, 1]` scale, a scalar or `(batch,)`.
            seed: Key for all draws, int64 of shape `(2,)`.

        Returns:
            Float32 tensor of the shape of `images`.
        """
        raise NotImplementedError(f"`{type(self).__name__}` must write `perturb`.")

    # No code here needs AutoGraph, which would read and rewrite all of it.
    @tf.autograph.experimental.do_not_convert
    def __call__(
        self,
        model: Any,
        images: Any,
        labels: Any = None,
        *,
        target_labels: Any = None,
        epsilon: Any = None,
        mask: Any = None,
        seed: Any = None,
    ) -> tf.Tensor:
        """Returns adversarial images for a batch of tensors, in any graph.

        Eager images and labels are checked as in `generate`; in a graph they cannot be.

        Args:
            model: A Keras model or a function from images to logits.
            images: Tensor `(batch, rows, cols, channels)` in `value_range`.
            labels: True labels, integer, one-hot or rows of probabilities; `None` for
                the model's predictions. An attack on the cross-entropy uses whole rows,
                all others the most likely class.
            target_labels: The classes to reach, for a targeted attack.
            epsilon: Overrides the constructor's; a number, scalar or `(batch,)`.
            mask: Booleans, or zeros and ones: which pixels may change; see `generate`.
            seed: Integer or key that fixes every draw; `None` draws at run time.

        Returns:
            Float32 tensor of the shape of `images`, in `value_range`.
        """
        logits_fn = self.logits_function(model)
        images = tf.convert_to_tensor(single_input(type(self).__name__, images))
        logits_fn.build(tuple(images.shape[1:]))
        all_axes = add_channels(images)
        unit = self.value_range.to_unit(tf.cast(all_axes, tf.float32))
        unit = tf.clip_by_value(unit, 0.0, 1.0)
        allowed = self._mask(mask, tuple(unit.shape))
        if allowed is not None:
            allowed = tf.broadcast_to(allowed, tf.shape(unit))
            logits_fn = logits_fn.within(allowed, unit)
        self.check_targets(target_labels)
        given = target_labels if self.targeted else labels
        if tf.executing_eagerly():
            check_eager(self, images, given, epsilon)
        key = make_key(seed)
        with watch_logits(unit) as looks:
            goal = given_or_predicted(self, logits_fn, unit, given, key)
            radius = self.radius(epsilon)
            found = self.perturb(logits_fn, unit, goal, radius, key)
            found = kept_in_ball(found, unit, self.reach(radius), self.norm)
        if tf.executing_eagerly():
            check_clean(self, logits_fn, unit, key, looks)
        pixels = tf.stop_gradient(self.value_range.pixels_of(found))
        clean = tf.cast(all_axes, tf.float32)
        same = self._unchanged(pixels, clean, allowed)
        pixels = pixels if same is None else tf.where(same, clean, pixels)
        return pixels if all_axes is images else pixels[..., 0]

    def generate(
        self,
        model: Any,
        images: Any,
        labels: Any = None,
        *,
        target_labels: Any = None,
        epsilon: float | None = None,
        mask: Any = None,
        seed: int | None = None,
        batch_size: int = 128,
        verbose: str | int = "auto",
        stop_early: bool = False,
    ) -> np.ndarray:
        """Returns adversarial images for arrays of any length.

        Compiles once per batch shape; the last batch is padded.

        In the scope of a `tf.distribute.MirroredStrategy` or
        `MultiWorkerMirroredStrategy`, each replica takes its share of the batches, and
        every worker returns all images, which are those of one device. All workers of a
        cluster make the same call with the same images. An attack whose images make
        room for others (`stop_early`, `Square`, `AutoAttack`) runs as a whole on each
        worker.

        Args:
            model: A Keras model or a function from images to logits.
            images: Array `(count, rows, cols, channels)` in `value_range`; or a finite
                `tf.data.Dataset` or `keras.utils.PyDataset` of batches, with or without
                labels. It is read once, in its own order.
            labels: True labels, integer `(count,)`, one-hot or probabilities
                `(count, classes)`; `None` for those of the data set or, without any,
                the model's predictions.
            target_labels: The classes to reach, for a targeted attack.
            epsilon: Overrides the constructor's.
            mask: Booleans, or zeros and ones: which pixels may change. Of shape
                `(rows, cols)` or `(rows, cols, channels)`, or one for each image with
                their number before; one channel stands for all. All other pixels come
                back the same to the bit. `None` for all pixels.
            seed: Integer that fixes every draw; `None` for fresh ones.
            batch_size: Images per compiled call.
            verbose: 0 for silence, 1 or "auto" for a progress bar.
            stop_early: Whether a broken image makes room for the next one. Faster; the
                result is then the first success, not the strongest.

        Returns:
            Float32 array of the shape of `images`, in `value_range`.

        Raises:
            ValueError: If images, labels, epsilon or mask are invalid, or the attack
                takes no mask; the message says how.
        """
        owner = type(self).__name__
        epsilon = self.epsilon if epsilon is None else self.checked_epsilon(epsilon)
        warn_small_epsilon(owner, epsilon or 0.0, self.value_range)
        self.check_targets(target_labels)
        radius = self.radius(epsilon)
        images, labels, _ = load_images(owner, images, labels)
        replicas = Replicas.of_scope(owner)
        with replicas.working_on(owner, model=model, **self.companions()):
            job = Job(
                self,
                model,
                images,
                target_labels if self.targeted else labels,
                batch_size=batch_size,
                seed=seed,
                verbose=verbose,
            )
            job.mask = self._mask(mask, job.images.shape)
            self.fill(job, radius, stop_early=stop_early)
        same = self._unchanged(job.result, job.images, job.mask)
        if same is not None:
            np.copyto(job.result, job.images, casting="unsafe", where=same)
        return job.result.reshape(job.shape)

    def _mask(self, mask: Any, shape: tuple[int | None, ...]) -> Any:
        """Returns a checked mask that broadcasts to images, or `None`."""
        if mask is None:
            return None
        owner = type(self).__name__
        if not self.takes_mask:
            rule = "None, because this attack moves whole images"
            advice = "Use an attack that follows gradients."
            raise invalid(owner, "mask", rule, mask, advice=advice)
        return checked_mask(owner, mask, shape)

    def _unchanged(self, found: Any, images: Any, mask: Any) -> Any:
        """Returns which values come back as they were given, `None` for none."""
        same = self.same(found, images)
        if mask is None:
            return same
        return ~mask if same is None else same | ~mask

    def same(self, found: Any, images: Any) -> Any:
        """Returns which values come back as they were given, to the bit.

        Args:
            found: Adversarial images in `value_range`, an array or a tensor.
            images: The clean images, the same.

        Returns:
            Booleans of their shape; `None` for none.
        """
        del found, images

    def predict(
        self, model: Any, images: Any, *, seed: int | None = None, batch_size: int = 128
    ) -> np.ndarray:
        """Returns the predicted classes, without side effects on the model.

        Args:
            model: A Keras model or a function from images to logits.
            images: Array `(count, rows, cols, channels)` in `value_range`, or a data
                set; see `generate`.
            seed: Integer that fixes a random model's draws; `None` for fresh ones.
            batch_size: Images per compiled call.

        Returns:
            Integer array of shape `(count,)`; -1 where the model gives NaN.
        """
        owner = type(self).__name__
        images = load_images(owner, images).images
        with Replicas.of_scope(owner).working_on(owner, model=model):
            job = Job(
                self,
                model,
                images,
                None,
                batch_size=batch_size,
                seed=seed,
                must_be_finite=False,
            )
        return job.labels

    def fill(self, job: Job, epsilon: tf.Tensor, *, stop_early: bool) -> None:
        """Fills `job.result`; attacks that can stop early override it.

        Args:
            job: The checked inputs of `generate`.
            epsilon: Radius on the `[0, 1]` scale.
            stop_early: Whether broken images leave.
        """
        if stop_early:
            rule = "False, because this attack runs in one piece"
            raise invalid(type(self).__name__, "stop_early", rule, True)
        job.craft_batches(epsilon)

    def confirm(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        key: tf.Tensor,
    ) -> tf.Tensor:
        """Returns whether images succeed in float32 and on fresh draws, `(batch,)`.

        Args:
            logits_fn: The attacked model.
            images: Images in `[0, 1]`.
            labels: Classes to leave or to reach, `(batch,)`.
            key: Key for the draws.
        """
        return confirm(
            logits_fn,
            images,
            labels,
            key,
            targeted=self.targeted,
            samples=self.eot_samples,
        )

    def passes(self, classes: int, model: Any = None) -> Passes:
        """Returns how many passes of the model one image costs, at most.

        Without early stopping, the check for finite logits, and the second look at each
        run's success on a random model. An attack that does not override this counts as
        one forward and one backward pass.

        Args:
            classes: Number of classes of the model.
            model: The attacked model, for attacks whose cost depends on it.

        Returns:
            A pair `(forward, backward)`.
        """
        del classes, model
        return Passes(1, 1)

    def companions(self) -> dict[str, Any]:
        """Returns other models that the attack calls, by name."""
        return {}

    def logits_function(self, model: Any) -> LogitsFunction:
        """Returns the model as this attack calls it."""
        if isinstance(model, LogitsFunction):
            return model
        return LogitsFunction(
            model,
            training=self.training,
            precision=self.precision,
            value_range=self.value_range,
        )

    def radius(self, epsilon: Any) -> tf.Tensor:
        """Returns the call's epsilon, or the constructor's, on the `[0, 1]` scale."""
        epsilon = self.epsilon if epsilon is None else epsilon
        if epsilon is None:
            rule = "given in the constructor or in the call"
            raise invalid(type(self).__name__, "epsilon", rule, epsilon)
        return tf.cast(epsilon, tf.float32) / self.value_range.span

    def reach(self, epsilon: tf.Tensor) -> tf.Tensor:
        """Returns how far results may lie from the images: epsilon, unless overridden.

        An attack that overrides it sets `leaves_ball = True`.

        Args:
            epsilon: Radius on the `[0, 1]` scale, a scalar or `(batch,)`.
        """
        return epsilon

    def check_measures(self, owner: str, argument: str) -> None:
        """Raises if results may leave the ball, and so say nothing about robustness.

        Args:
            owner: Name of the class or function that measures robustness.
            argument: Name of the argument that took the attack.
        """
        if self.leaves_ball:
            rule = "an attack whose results lie within epsilon"
            advice = f"`{self}` is one to train on; measure with `PGD` or `AutoAttack`."
            raise invalid(owner, argument, rule, self, advice=advice)

    def check_targets(self, target_labels: Any) -> None:
        """Raises if `target_labels` are missing, or given without `targeted=True`."""
        if self.targeted == (target_labels is None):
            rule = "given exactly when the attack is made with `targeted=True`"
            raise invalid(type(self).__name__, "target_labels", rule, target_labels)

    def replace(self, **changes: Any) -> "Attack":
        """Returns a new attack with some constructor arguments changed."""
        return type(self)(**{**self._values(), **changes})

    def _values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.arguments()}

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as JSON values."""
        config = {**self._values(), "value_range": list(self.value_range)}
        serialize = keras.saving.serialize_keras_object
        return {name: serialize(value) for name, value in config.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Attack":
        """Returns an attack made from `get_config`."""
        deserialize = keras.saving.deserialize_keras_object
        return cls(**{name: deserialize(value) for name, value in config.items()})

    def __repr__(self) -> str:
        arguments = {**self._values(), "value_range": tuple(self.value_range)}
        listed = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        return f"{type(self).__name__}({listed})"

    def __str__(self) -> str:
        return type(self).__name__
