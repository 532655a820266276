"""Names for new layers that the model does not use yet."""

import keras

from keras_advdef.core.keras_private import inner_layers


class Names:
    """Makes names that no layer of a model has yet.

    Keras's automatic names restart in every process and may clash with the layers of a
    loaded model.

    Args:
        model: The model.

    Example:

    >>> from keras_advdef.surgery._names import Names
    >>> model = keras.Sequential([keras.layers.Dense(1, name="head_noise")])
    >>> names = Names(model)
    >>> names.new("head_noise"), names.new("head_noise")
    ('head_noise_1', 'head_noise_2')
    """

    def __init__(self, model: keras.Model) -> None:
        self._taken = {layer.name for layer in inner_layers(model)}

    def new(self, wanted: str) -> str:
        """Returns a name, with a number appended if it is taken.

        Args:
            wanted: The preferred name.
        """
        name, count = wanted, 0
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name
