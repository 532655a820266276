"""AdaptiveDiversity: rewards ensembles whose members make different errors."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.errors import checked_number, invalid
from keras_advdef.core.labels import sparse_labels

# Keeps the determinant positive for equal members, as in the authors' code.
_JITTER = 1e-6
# Keeps the norm of a member's vector positive. The authors' code computes 0 / 0 if a
# member is certain. In float64 it is negligible even for confident members.
_TINY = 1e-20
_SMALLEST_PROBABILITY = 1e-30


@keras.saving.register_keras_serializable(package="keras_advdef")
class AdaptiveDiversity(keras.losses.Loss):
    """Adaptive diversity promoting regularizer of an ensemble (Pang et al., ICML 2019).

    `-entropy_weight * H - diversity_weight * log(det)`, in nats. H is the entropy of
    the members' mean prediction. `det` is the determinant of the Gram matrix of the
    members' predictions, each without the true class and scaled to unit length. It is 1
    if the members spread their errors over different classes and near 0 if they agree,
    so its logarithm is at most 0. The matrix is factored in float64, with 1e-6 added to
    its diagonal.

    This is only the regularizer, without the members' cross-entropies; see
    `objectives.AdaptiveDiversityPromoting` for the full objective.

    Args:
        entropy_weight: Number of at least 0, the paper's alpha.
        diversity_weight: Number of at least 0, the paper's beta.
        from_logits: Whether `y_pred` holds logits instead of probabilities.
        name: Name of the loss.
        reduction: As in `keras.losses.Loss`.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Integer labels `(batch,)` or one-hot `(batch, classes)`.
        y_pred: The members' predictions, shape `(batch, members, classes)`.

    Returns:
        The regularizer, reduced over the batch.

    Raises:
        ValueError: If a weight is negative. In the call, if there are more members
            than wrong classes, since their vectors cannot be independent.

    Reference:
        Pang, Xu, Du, Chen, Zhu: Improving Adversarial Robustness via Promoting Ensemble
        Diversity, ICML 2019.

    Example:

    >>> loss = keras_advdef.losses.AdaptiveDiversity(
    ...     entropy_weight=0.0, diversity_weight=1.0)
    >>> equal = np.tile([[0.6, 0.1, 0.1, 0.1, 0.1]], (1, 3, 1))
    >>> round(float(loss([0], equal)), 2)
    26.53
    """

    def __init__(
        self,
        *,
        entropy_weight: float = 2.0,
        diversity_weight: float = 0.5,
        from_logits: bool = False,
        name: str = "adaptive_diversity",
        reduction: str | None = "sum_over_batch_size",
        dtype: str | keras.DTypePolicy | None = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        owner = "AdaptiveDiversity"
        self.entropy_weight = checked_number(
            owner, "entropy_weight", entropy_weight, low=0.0
        )
        self.diversity_weight = checked_number(
            owner, "diversity_weight", diversity_weight, low=0.0
        )
        self.from_logits = bool(from_logits)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns the regularizer of each image, float32 of shape `(batch,)`."""
        members = tf.cast(y_pred, tf.float32)
        _check_members(members)
        if self.from_logits:
            members = tf.nn.softmax(members)
        entropy = mean_entropy(members)
        volume = log_diversity(sparse_labels(y_true), members)
        return -self.entropy_weight * entropy - self.diversity_weight * volume

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "entropy_weight": self.entropy_weight,
            "diversity_weight": self.diversity_weight,
            "from_logits": self.from_logits,
        }


def _check_members(members: tf.Tensor) -> None:
    owner = "AdaptiveDiversity"
    if members.shape.rank != 3:
        rule = "predictions of shape (batch, members, classes)"
        advice = "Stack the members' predictions along axis 1."
        raise invalid(owner, "y_pred", rule, members, advice=advice)
    _, count, classes = members.shape
    if count > classes - 1:
        rule = f"predictions of at most {classes - 1} members for {classes} classes"
        advice = "More vectors over the wrong classes cannot be independent."
        raise invalid(owner, "y_pred", rule, members, advice=advice)


def mean_entropy(members: tf.Tensor) -> tf.Tensor:
    """Returns the entropy of the members' mean prediction, in nats.

    Args:
        members: Probabilities of shape `(batch, members, classes)`.

    Returns:
        Float32 tensor of shape `(batch,)`.

    Example:

    >>> from keras_advdef.losses.adaptive_diversity import mean_entropy
    >>> round(float(mean_entropy(tf.fill((1, 2, 10), 0.1))[0]), 4)
    2.3026
    """
    mean = tf.reduce_mean(members, axis=1)
    logs = tf.math.log(tf.maximum(mean, _SMALLEST_PROBABILITY))
    return -tf.reduce_sum(mean * logs, axis=-1)


def log_diversity(labels: tf.Tensor, members: tf.Tensor) -> tf.Tensor:
    """Returns the log of the squared volume spanned by the members' errors.

    Args:
        labels: Integer labels of shape `(batch,)`.
        members: Probabilities of shape `(batch, members, classes)`.

    Returns:
        Float32 tensor of shape `(batch,)`.

    Example:

    >>> from keras_advdef.losses.adaptive_diversity import log_diversity
    >>> apart = tf.constant([[[0.8, 0.2, 0.0], [0.8, 0.0, 0.2]]])
    >>> abs(float(log_diversity(tf.constant([0]), apart)[0])) < 1e-5
    True
    """
    wrong = tf.cast(members, tf.float64)
    # Zeroing the true class changes no inner product and keeps the shape.
    is_own = tf.one_hot(labels, members.shape[-1], on_value=0.0, off_value=1.0)
    wrong *= tf.cast(is_own, tf.float64)[:, tf.newaxis]
    squares = tf.reduce_sum(tf.square(wrong), axis=-1, keepdims=True)
    wrong /= tf.sqrt(squares + _TINY)
    gram = tf.matmul(wrong, wrong, transpose_b=True)
    gram += _JITTER * tf.eye(members.shape[1], dtype=tf.float64)
    diagonal = tf.linalg.diag_part(tf.linalg.cholesky(gram))
    return tf.cast(2.0 * tf.reduce_sum(tf.math.log(diagonal), axis=-1), tf.float32)
