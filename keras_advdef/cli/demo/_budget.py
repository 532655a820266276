"""How much the demo trains and attacks on each data set."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits that let the demo finish within minutes on two CPU cores.

    Attributes:
        epsilon: Largest change of a pixel, in `[0, 1]`.
        epochs: Passes over the training images.
        train_images: Most training images.
        test_images: Most test images.
    """

    epsilon: float
    epochs: int
    train_images: int
    test_images: int

    @classmethod
    def for_data(cls, name: str) -> "Budget":
        """Returns the budget for a data set.

        Args:
            name: What the user passed as `--data`.

        Returns:
            The budget of a known data set; otherwise the one for small photographs.

        Example:

        >>> from keras_advdef.cli.demo._budget import Budget
        >>> Budget.for_data("mnist").epsilon
        0.3
        """
        return _KNOWN.get(name, _KNOWN["cifar10"])


_KNOWN = {
    "digits": Budget(epsilon=0.15, epochs=30, train_images=1397, test_images=400),
    "mnist": Budget(epsilon=0.3, epochs=10, train_images=6000, test_images=500),
    "fashion_mnist": Budget(epsilon=0.1, epochs=10, train_images=6000, test_images=500),
    "cifar10": Budget(epsilon=8 / 255, epochs=12, train_images=6000, test_images=500),
}
