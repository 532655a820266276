import warnings

import numpy as np
import tensorflow as tf

from keras_advdef.layers._distributions import distributions
from tests.support.fresh_process import run_fresh


def test_is_the_module():
    normal = distributions().Normal(1.0, 2.0)
    found = float(normal.log_prob(1.0))
    np.testing.assert_allclose(found, -np.log(2.0 * np.sqrt(2.0 * np.pi)), rtol=1e-6)
    assert distributions() is distributions()


IN_A_GRAPH = """
import json, sys, warnings
import tensorflow as tf
from keras_advdef.layers._distributions import distributions
before = "tensorflow_probability" in sys.modules
warnings.simplefilter("error")
traced = tf.function(lambda x: distributions().Normal(0.0, 2.0).log_prob(x))
first = float(traced(tf.constant(0.0)))
second = float(distributions().Normal(0.0, 2.0).log_prob(0.0))
print(json.dumps([before, first, second]))
"""


def test_first_use_may_be_in_a_graph_and_warns_of_nothing():
    before, first, second = run_fresh(IN_A_GRAPH)
    assert not before
    assert first == second


def test_leaves_the_filters_of_warnings_alone():
    before = list(warnings.filters)
    distributions()
    assert warnings.filters == before
    assert tf.executing_eagerly()
