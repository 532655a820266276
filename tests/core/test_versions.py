import keras
import numpy as np
import tensorflow as tf

import keras_advdef
from keras_advdef.core.versions import versions


def test_versions_are_those_in_use():
    found = versions()
    for module in (keras_advdef, keras, tf, np):
        assert found[module.__name__.partition(".")[0]] == module.__version__
