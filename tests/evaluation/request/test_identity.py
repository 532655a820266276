import json

import numpy as np
import pytest

from keras_advdef.attacks import APGD, FGSM, PGD
from keras_advdef.attacks.losses import TargetedDLR
from keras_advdef.evaluation._request.identity import identity_of
from tests.support.nets import linear_net

BASE = {
    "model": linear_net([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]),
    "images": np.linspace(0.2, 0.8, 8).reshape(4, 2, 1, 1),
}


@pytest.fixture
def identity(make_request):
    return lambda **changes: identity_of(make_request(**{**BASE, **changes}))


CHANGES = {
    "model": {"model": linear_net([[1.0, 0.0], [0.0, 2.0]], [0.0, 0.0])},
    "data": {"images": BASE["images"] + 0.01},
    "epsilon": {"epsilon": 0.11},
    "norm": {"norm": "l2"},
    "further norms": {"norms": ["linf", "l2"], "epsilon": [0.1, 0.5]},
    "value range": {"value_range": (0, 2)},
    "budget": {"budget": "full"},
    "seed": {"seed": 1},
    "judgements": {"judgements": 5},
    "attacks": {"attacks": [FGSM(0.1)]},
    "reference": {"reference": BASE["model"]},
    "surrogate": {"surrogate": BASE["model"]},
    "curve": {"curve": [0.2]},
    "corruptions": {"corruptions": True},
    "batch size": {"batch_size": 2},
    "precision": {"precision": "bfloat16"},
}


def test_every_setting_counts_and_no_other(identity):
    before = identity()
    for name, change in CHANGES.items():
        after = identity(**change)
        assert [key for key in after if after[key] != before[key]] == [name]
    assert {*before} == {*CHANGES, "version of keras_advdef"}


def test_labels_are_data(identity):
    assert identity(labels=[1, 0, 0, 1])["data"] != identity()["data"]


def test_survives_its_file(identity):
    settings = {"curve": [0.1, 0.3], "attacks": [PGD(1 / 3)], "epsilon": 1 / 3}
    found = identity(**settings)
    assert json.loads(json.dumps(found)) == found
    assert identity(**settings) == found


def test_equal_losses_are_equal(identity):
    one, other = (
        identity(attacks=[APGD(0.1, loss=TargetedDLR(3))], labels=[0, 1, 0, 1])
        for _ in range(2)
    )
    assert one == other


def test_images_beyond_the_budget_do_not_count(identity):
    images = np.linspace(0.2, 0.8, 402).reshape(201, 2, 1, 1)
    labels = np.zeros(201, int)
    changed = images.copy()
    changed[200] = 0.0
    first = identity(images=images, labels=labels)
    assert identity(images=changed, labels=labels) == first
