"""WorkerExchange: arrays from every worker of a cluster to all of them."""

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_advdef.core.digest import array_digest
from keras_advdef.core.untrusted import read_npz_stream

Arrays = dict[str, np.ndarray]

# Words of four bytes that one collective operation carries.
_PIECE = 2**24
_KINDS = {kind.__name__: kind for kind in (ValueError, TypeError, FileNotFoundError)}


class WorkerExchange:
    """Gathers arrays, and errors, from the workers of a cluster on all of them.

    All workers must call the same methods in the same order, from one thread each.

    Args:
        strategy: A `MultiWorkerMirroredStrategy` of several workers.
        local: Replicas of this worker; every worker has as many.
        is_chief: Whether this is the first worker.

    Example:

    >>> from keras_advdef.core._worker_exchange import WorkerExchange
    >>> exchange = WorkerExchange(tf.distribute.get_strategy(), 1, True)
    >>> exchange.gather(lambda: {"a": np.arange(3)})
    [{'a': array([0, 1, 2])}]
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, local: int, is_chief: bool
    ) -> None:
        self.is_chief = is_chief
        # The last error that was raised on all workers.
        self.raised: Exception | None = None
        self._local = local

        def each(words: tf.Tensor) -> tf.Tensor:
            # A placeholder has no device, which the collective needs.
            words = tf.identity(words)
            return tf.distribute.get_replica_context().all_gather(words, axis=0)

        # One trace for vectors of all lengths; eagerly each would be traced.
        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.int32)])
        def gather(words: tf.Tensor) -> tf.Tensor:
            found = strategy.run(each, args=(words,))
            return strategy.experimental_local_results(found)[0]

        self._gather_words = gather

    def gather(
        self, compute: Callable[[], Arrays | None], *, only_chiefs: bool = False
    ) -> list[Arrays]:
        """Returns what each worker computed, in the order of the workers.

        Args:
            compute: Returns arrays; nothing stands for no arrays.
            only_chiefs: Whether all get only what the chief computed, in a list.

        Raises:
            Exception: What it raised on any worker, here and on all others.
        """
        error: Exception | None = None
        content = b""
        try:
            arrays = compute()
            if arrays and (self.is_chief or not only_chiefs):
                content = _packed(arrays)
        except Exception as caught:
            error, content = caught, _told(caught)
        failed, contents = self._exchange(error is not None, content)
        if any(failed):
            self.raised = error or _heard(contents[failed.index(True)])
            raise self.raised
        found = [_unpacked(each) if each else {} for each in contents]
        return found[:1] if only_chiefs else found

    def agrees(self, *arrays: np.ndarray) -> bool:
        """Returns whether all workers hold the same arrays.

        Args:
            *arrays: Those of this worker.
        """
        mine = np.frombuffer(array_digest(*arrays).encode(), np.uint8)
        found = self.gather(lambda: {"digest": mine})
        return len({each["digest"].tobytes() for each in found}) == 1

    def _exchange(self, failed: bool, content: bytes) -> tuple[list[bool], list[bytes]]:
        """Returns who failed, and the bytes of each worker."""
        count, rest = divmod(len(content), 4)
        words = np.frombuffer(content + bytes(-rest % 4), np.int32)
        header = np.array([failed, count, rest], np.int32)
        headers = self._rows(header)
        lengths = 4 * headers[:, 1].astype(np.int64) + headers[:, 2]
        most = -(-int(lengths.max()) // 4)
        pieces = [np.zeros((len(headers), 0), np.int32)]
        for start in range(0, most, _PIECE):
            piece = np.zeros(min(_PIECE, most - start), np.int32)
            mine = words[start : start + len(piece)]
            piece[: len(mine)] = mine
            pieces.append(self._rows(piece))
        rows = np.concatenate(pieces, axis=1)
        found = [
            row.tobytes()[:length] for row, length in zip(rows, lengths, strict=True)
        ]
        return [bool(each) for each in headers[:, 0]], found

    def _rows(self, words: np.ndarray) -> np.ndarray:
        """Returns the words of each worker, of as many as this one's."""
        gathered = self._gather_words(tf.constant(words)).numpy()
        # All replicas of a worker send the same.
        return gathered.reshape(-1, self._local, len(words))[:, 0]


def _packed(arrays: Arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **dict[str, Any](arrays))
    return file.getvalue()


def _unpacked(content: bytes) -> Arrays:
    return read_npz_stream(io.BytesIO(content), ValueError)


def _told(error: Exception) -> bytes:
    kind = next((name for name in _KINDS if isinstance(error, _KINDS[name])), "")
    return json.dumps({"kind": kind, "message": str(error)}).encode()


def _heard(content: bytes) -> Exception:
    values = json.loads(content)
    return _KINDS.get(values["kind"], RuntimeError)(values["message"])
