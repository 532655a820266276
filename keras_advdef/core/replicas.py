"""Replicas: shares work out over the replicas of a distribution strategy."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core._worker_exchange import Arrays, WorkerExchange
from keras_advdef.core.errors import invalid
from keras_advdef.core.model_view import ModelView
from keras_advdef.core.progress import meter

_Result = TypeVar("_Result")
_Item = TypeVar("_Item")

# Kinds of strategies whose replicas are threads or processes with devices of their own.
_KINDS = (
    tf.distribute.MirroredStrategy,
    tf.distribute.MultiWorkerMirroredStrategy,
    tf.distribute.OneDeviceStrategy,
)


class _Here(threading.local):
    """What this thread works for: its replicas, and its own if it works on a share."""

    replicas: "Replicas | None" = None
    place: int | None = None
    stopped: threading.Event | None = None


_here = _Here()


class _Share(NamedTuple):
    """What a replica found, by the place of the items, and what that cost."""

    parts: dict[int, Arrays]
    traces: int
    tracing: float
    rows: int


class Replicas:
    """The replicas that work is shared out over, in this process and in other workers.

    Work is shared out in whole pieces, such as the batches of an attack, each with its
    own key for draws. So a piece gives the same result wherever it runs, to the bit.
    A share runs in a thread of its own, as a replica of the strategy: on its device,
    with its copy of the variables. The pieces are loops of Python over compiled
    functions, and an eager `strategy.run` would run one replica after the other. The
    results of all workers are gathered by all of them.

    Args:
        strategy: A strategy, or `None` for one replica.

    Example:

    >>> from keras_advdef.core.replicas import Replicas
    >>> list(Replicas(None).map(lambda n: {"square": np.array(n * n)}, [2, 3]))
    [{'square': array(4)}, {'square': array(9)}]
    """

    def __init__(self, strategy: tf.distribute.Strategy | None) -> None:
        self.strategy = strategy or tf.distribute.get_strategy()
        self.count = 1 if strategy is None else strategy.num_replicas_in_sync
        # The numbers of this process's replicas among all.
        self._local = [0] if strategy is None else _local_ids(strategy)
        self._exchange: WorkerExchange | None = None
        if strategy is not None and self.count > len(self._local):
            is_chief = self._local[0] == 0
            self._exchange = WorkerExchange(strategy, len(self._local), is_chief)

    @classmethod
    def of_scope(cls, owner: str) -> "Replicas":
        """Returns those of the strategy whose scope this thread is in, or one.

        Args:
            owner: Name of the class or function that has work to share out.

        Raises:
            ValueError: If the strategy is of a kind that cannot share out.

        Example:

        >>> from keras_advdef.core.replicas import Replicas
        >>> Replicas.of_scope("PGD").count
        1
        """
        if _here.replicas is not None:
            return _here.replicas
        # A replica of `strategy.run` has images of its own.
        if not tf.distribute.has_strategy() or tf.distribute.get_replica_context():
            return cls(None)
        strategy = tf.distribute.get_strategy()
        if not isinstance(strategy, _KINDS):
            rule = "MirroredStrategy or MultiWorkerMirroredStrategy around this call"
            name = type(strategy).__name__
            advice = "Call it outside of this strategy's scope, on one device."
            raise invalid(owner, "strategy", rule, name, advice=advice)
        return _replicas_of(strategy)

    @property
    def has_workers(self) -> bool:
        """Whether other processes take part."""
        return self._exchange is not None

    @property
    def is_chief(self) -> bool:
        """Whether this is the process that reads and writes files for all."""
        return self._exchange is None or self._exchange.is_chief

    @contextlib.contextmanager
    def working_on(self, owner: str, **models: Any) -> Iterator[None]:
        """Makes models the same on all replicas while the body runs.

        After training, the moving averages of `BatchNormalization` differ from replica
        to replica. Those of the first one count, which are those that are saved.

        Args:
            owner: Name of the class or function that takes the models.
            **models: Keras models by argument; others are left alone.

        Raises:
            ValueError: If a model has variables that are not those of the strategy.
        """
        # What is made outside of the scope is no user's model, but a helper.
        if self.count == 1 or not tf.distribute.has_strategy():
            yield
            return
        variables: dict[int, keras.Variable] = {}
        for name, given in models.items():
            model = given.model if isinstance(given, ModelView) else given
            if isinstance(model, keras.Model):
                self._check_model(owner, name, model)
                # Gradients are summed over replicas, so other weights do not differ.
                known = model.non_trainable_weights
                variables.update((id(each), each) for each in known)
        values = [each.value for each in variables.values()]
        with self._ending_together(), self._first_values(values):
            yield

    @contextlib.contextmanager
    def _ending_together(self) -> Iterator[None]:
        """Tells the other workers, which would wait, of an error in this one."""
        exchange = self._exchange
        if exchange is None:
            yield
            return
        try:
            yield
        except Exception as error:
            if error is not exchange.raised:
                exchange.gather(functools.partial(_raise, error))
            raise
        exchange.gather(lambda: None)

    def _check_model(self, owner: str, name: str, model: keras.Model) -> None:
        if any(_strategy_of(each) is not self.strategy for each in model.variables):
            rule = "a model built in the scope of the strategy around this call"
            advice = (
                "Build or load it inside of `with strategy.scope():`, or make this "
                "call outside of it, on one device."
            )
            raise invalid(owner, name, rule, model.name, advice=advice)

    @contextlib.contextmanager
    def _first_values(self, variables: Sequence[Any]) -> Iterator[None]:
        """Gives variables the first replica's values while the body runs."""
        copies = [self.strategy.experimental_local_results(each) for each in variables]

        def first() -> Arrays:
            firsts = [each[0].numpy() for each in copies]
            return {f"{place:05d}": each for place, each in enumerate(firsts)}

        values = self.agreed(first)
        others: list[tuple[tf.Variable, np.ndarray]] = []
        try:
            for name, local in zip(sorted(values), copies, strict=True):
                for each in local:
                    before = each.numpy()
                    if not np.array_equal(before, values[name]):
                        others.append((each, before))
                        each.assign(values[name])
            yield
        finally:
            for each, before in others:
                each.assign(before)

    def check_same(self, owner: str, *arrays: np.ndarray) -> None:
        """Raises, on all workers, if they were given different images or labels.

        Args:
            owner: Name of the class or function that takes them.
            *arrays: What has to be the same on all workers.

        Raises:
            ValueError: If they were.
        """
        if self._exchange is not None and not self._exchange.agrees(*arrays):
            rule = "the same on every worker, labels, model and settings as well"
            advice = "Give every worker all images, in the same order."
            raise invalid(owner, "images", rule, "different ones", advice=advice)

    def map(
        self, function: Callable[[_Item], Arrays], items: Sequence[_Item]
    ) -> Iterator[Arrays]:
        """Yields `function(item)` for all items in their order, on every worker.

        Item number i is worked on by replica i modulo their number; a single item by
        every worker. On one replica, an item is worked on when its turn comes.

        Args:
            function: Returns arrays, whoever calls it and whatever came before.
            items: The pieces of the work, the same on all workers.

        Raises:
            Exception: What the function raised, on all workers.
        """
        if self.count == 1 or len(items) < 2:
            for item in items:
                _check_going_on()
                yield function(item)
            return
        run = functools.partial(self._run_shares, function, items)
        parts: dict[int, Arrays] = {}
        if self._exchange is None:
            parts = run()
        else:
            for each in self._exchange.gather(lambda: _flat(run())):
                parts |= _nested(each)
        yield from (parts[place] for place in range(len(items)))

    def _run_shares(
        self, function: Callable[[_Item], Arrays], items: Sequence[_Item]
    ) -> dict[int, Arrays]:
        """Works on the items of this process's replicas, in a thread for each."""
        failed, outer = threading.Event(), _here.stopped

        def work(place: int, replica: int) -> _Share:
            meter.traces, meter.tracing, meter.rows = 0, 0.0, 0
            with self._as_replica(place, replica):
                found = {}
                for number in range(replica, len(items), self.count):
                    if failed.is_set() or (outer is not None and outer.is_set()):
                        break
                    found[number] = function(items[number])
            return _Share(found, meter.traces, meter.tracing, meter.rows)

        parts: dict[int, Arrays] = {}
        with _pool(len(self._local), failed) as pool:
            shares = [pool.submit(work, *each) for each in enumerate(self._local)]
            for share in [each.result() for each in shares]:
                parts |= share.parts
                meter.traces += share.traces
                meter.tracing += share.tracing
                meter.rows += share.rows
        _check_going_on()
        return parts

    @contextlib.contextmanager
    def _as_replica(self, place: int, replica: int) -> Iterator[None]:
        """Makes this thread a replica of the strategy."""
        device = self.strategy.extended.worker_devices[place]
        context = tf.distribute.ReplicaContext(self.strategy, replica)
        _here.replicas, _here.place = Replicas(None), place
        with context, tf.device(device):
            yield

    def agreed(self, compute: Callable[[], Arrays]) -> Arrays:
        """Returns what the chief has computed, as every worker has for itself.

        So rounding cannot make workers take different decisions.

        Args:
            compute: Makes the arrays; may share out in turn.

        Raises:
            Exception: What it raised, on all workers.
        """
        _check_going_on()
        if self._exchange is None:
            return compute()
        return self._exchange.gather(compute, only_chiefs=True)[0]

    def on_chief(self, compute: Callable[[], Arrays | None]) -> Arrays | None:
        """Returns what the chief computes; other workers wait for it.

        Args:
            compute: Reads or writes files, and may return arrays. Must not share out.

        Raises:
            Exception: What it raised, on all workers.

        Example:

        >>> from keras_advdef.core.replicas import Replicas
        >>> Replicas(None).on_chief(lambda: None) is None
        True
        """
        if self._exchange is None:
            return compute()
        mine = compute if self.is_chief else lambda: None
        return self._exchange.gather(mine, only_chiefs=True)[0] or None


def share_place() -> int | None:
    """Returns which local replica this thread works for; `None` outside of a share.

    Example:

    >>> keras_advdef.core.replicas.share_place() is None
    True
    """
    return _here.place


def outside_of_scope(replicas: Replicas, function: Callable[[], _Result]) -> _Result:
    """Calls a function outside of the strategy's scope; `map` still shares out in it.

    Variables that are made in a scope belong to its strategy, which those of a helper
    model of one process must not. TensorFlow's only way out of a scope is another
    thread.

    Args:
        replicas: From `Replicas.of_scope`.
        function: Called without arguments.

    Example:

    >>> from keras_advdef.core.replicas import Replicas, outside_of_scope
    >>> outside_of_scope(Replicas(None), tf.distribute.has_strategy)
    False
    """
    if not tf.distribute.has_strategy():
        return function()
    stopped = threading.Event()

    def call() -> _Result:
        _here.replicas, _here.stopped = replicas, stopped
        return function()

    with _pool(1, stopped) as pool:
        return pool.submit(call).result()


@contextlib.contextmanager
def _pool(threads: int, stopped: threading.Event) -> Iterator[ThreadPoolExecutor]:
    """Threads with Keras's settings of this one; stopped by an error in the body."""
    with ThreadPoolExecutor(
        threads,
        initializer=keras.config.set_dtype_policy,
        initargs=(keras.config.dtype_policy(),),
    ) as pool:
        try:
            yield pool
        except BaseException:
            stopped.set()
            raise


def _check_going_on() -> None:
    """Raises in a thread whose caller was interrupted."""
    if _here.stopped is not None and _here.stopped.is_set():
        raise KeyboardInterrupt


@functools.lru_cache(4)
def _replicas_of(strategy: tf.distribute.Strategy) -> Replicas:
    return Replicas(strategy)


def _local_ids(strategy: tf.distribute.Strategy) -> list[int]:
    ids: list[int] = []

    def note(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
        ids.append(int(context.replica_id_in_sync_group))
        return tf.constant(0)

    strategy.experimental_distribute_values_from_function(note)
    return ids


def _strategy_of(variable: Any) -> tf.distribute.Strategy | None:
    value = variable.value
    is_distributed = isinstance(value, tf.distribute.DistributedValues)
    return value.distribute_strategy if is_distributed else None


def _raise(error: Exception) -> Arrays:
    raise error


def _flat(parts: dict[int, Arrays]) -> Arrays:
    return {
        f"{place}/{name}": each
        for place, part in parts.items()
        for name, each in part.items()
    }


def _nested(arrays: Arrays) -> dict[int, Arrays]:
    parts: dict[int, Arrays] = {}
    for key, each in arrays.items():
        place, name = key.split("/", 1)
        parts.setdefault(int(place), {})[name] = each
    return parts
