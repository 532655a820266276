"""Writes the SavedModel that tests of damaged files change at random.

TensorFlow dies of one in some 500 SavedModels that are changed so. What is drawn
follows the bytes, and no two processes export the same: only a file that stays is
changed alike in every run. To write it again, which changes all draws, run

    python -m tests.golden.served

and see that the tests, the nightly ones too, survive what is drawn then.
"""

from pathlib import Path

import keras

from keras_advdef.layers import RandomNoise

FOLDER = Path(__file__).with_suffix("")


def main() -> None:
    """Exports a small random net."""
    keras.utils.set_random_seed(0)
    net = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            RandomNoise(0.1),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    net.export(str(FOLDER), verbose=False)


if __name__ == "__main__":
    main()
