"""Shared small nets and images; every test starts from the same seed."""

import gc
import os
import signal
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Optimizing small kernels that run once would take a third of the tests' time.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core import cards
from tests.support.nets import digit_images, small_net
from tests.support.two_classes import two_classes


def pytest_collectstart(collector):
    """Seeds the layers that a module builds while it is imported."""
    if isinstance(collector, pytest.Module):
        keras.utils.set_random_seed(0)


def pytest_collection_modifyitems(items):
    """Puts the tests of replicas after the first, beside which their process runs.

    Last, the other worker would wait for it.
    """
    places = {"test_contracts.py": 0, "test_distribution.py": 1}
    items.sort(key=lambda item: places.get(item.path.name, 2))


@pytest.fixture(scope="session", autouse=True)
def started_early(request):
    """The process of replicas, which waits half of its time, or None if not needed.

    It is started in the first worker, which gets its tests.
    """
    tests = [each for each in request.session.items if "mirrored" in each.fixturenames]
    if not tests or os.environ.get("PYTEST_XDIST_WORKER", "gw0") != "gw0":
        yield None
        return
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(tests[0].module.run_parts)


@pytest.fixture(scope="session", autouse=True)
def _interruptible():
    """A shell makes what it starts in the background ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _seeded():
    # `clear_session` collects garbage after every test; without this it walks through
    # all of TensorFlow and what earlier tests compiled, longer than most tests take.
    gc.collect()
    gc.freeze()
    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session()


@pytest.fixture
def own_cards(monkeypatch):
    """Forgets the cards of a test's classes, which would reach later tests' tables."""
    monkeypatch.setattr(cards, "_CARDS", dict(cards._CARDS))


@pytest.fixture
def images():
    """Six 8x8 grey images away from the borders of the range."""
    generator = np.random.default_rng(0)
    return generator.uniform(0.05, 0.95, (6, 8, 8, 1)).astype("float32")


@pytest.fixture
def labels():
    return np.array([0, 1, 2, 0, 1, 2])


@pytest.fixture
def net():
    """A conv net on 8x8x1 with three classes and random weights."""
    return small_net()


@pytest.fixture(scope="session")
def digits():
    """400 training and 200 test images of three easy classes, 8x8x1 in [0, 1]."""
    return digit_images()


@pytest.fixture(scope="session")
def trained_net(digits):
    """The small net, trained on the digits; shared, so leave its weights alone."""
    keras.utils.set_random_seed(1)
    net = small_net()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    net.fit(digits.x_train, digits.y_train, epochs=12, verbose=0)
    return net


@pytest.fixture
def make_request():
    """Makes a request for a plain function and four images, with some changes."""

    def make(**changes):
        defaults = {
            "model": len,
            "images": np.full((4, 2, 1, 1), 0.5),
            "labels": [0, 1, 0, 1],
            "epsilon": 0.1,
            "norm": "linf",
            "norms": None,
            "value_range": (0, 1),
            "budget": "quick",
            "corruptions": False,
            "attacks": None,
            "reference": None,
            "surrogate": None,
            "curve": None,
            "batch_size": 128,
            "precision": "float32",
            "seed": 0,
            "judgements": 10,
            "allow_small_epsilon": False,
        }
        from keras_advdef.evaluation._request.request import Request

        return Request.parse(**{**defaults, **changes})

    return make


@pytest.fixture
def in_every_mode():
    """Runs a function of tensors eagerly, as a graph and compiled by XLA."""

    def run(function, *arguments):
        graph = tf.function(function, autograph=False)
        compiled = tf.function(function, jit_compile=True, autograph=False)
        return [mode(*arguments) for mode in (function, graph, compiled)]

    return run


@pytest.fixture
def arrays():
    return two_classes()


@pytest.fixture
def npz(tmp_path, arrays):
    """Path of a good `.npz` file."""
    path = tmp_path / "good.npz"
    np.savez(path, **arrays)
    return path
