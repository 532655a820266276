import numpy as np
import pytest

from keras_advdef.attacks import FGSM, PGD, Attack
from keras_advdef.core.model_view import ModelView
from keras_advdef.evaluation.judge import Judge
from keras_advdef.evaluation.ledger import Ledger
from keras_advdef.evaluation.progress import Progress
from keras_advdef.evaluation.request import Request
from keras_advdef.evaluation.runner import DRAWS, Runner
from keras_advdef.evaluation.stage import Stage
from keras_advdef.layers import RandomNoise
from tests.support.nets import linear_net, small_net

# Class 1 where the first pixel is above the second.
NET = linear_net([[0.0, 0.0], [1.0, -1.0]], [0.0, 0.0])
IMAGES = np.array([[0.6, 0.5], [0.9, 0.2], [0.7, 0.4], [0.2, 0.8]], "float32")
LABELS = np.array([1, 1, 1, 1])


class Outside(Attack):
    """Leaves the ball and the range."""

    def __init__(self, epsilon=None, value_range=(0.0, 1.0)):
        super().__init__(
            epsilon,
            norm="linf",
            value_range=value_range,
            targeted=False,
            training=False,
        )

    def perturb(self, logits_fn, images, labels, epsilon, seed):
        del logits_fn, labels, epsilon, seed
        return 1.0 - images


def make_runner(model=NET, images=None, *, is_random=False, **changes):
    images = IMAGES.reshape(4, 2, 1, 1) if images is None else images
    arguments = {
        "model": model,
        "images": images,
        "labels": LABELS,
        "epsilon": 0.2,
        "norm": "linf",
        "value_range": (0, 1),
        "budget": "quick",
        "attacks": None,
        "reference": None,
        "surrogate": None,
        "curve": None,
        "batch_size": 2,
        "precision": "float32",
        "seed": 0,
        "allow_small_epsilon": False,
        **changes,
    }
    request = Request.parse(**arguments)
    judge = Judge(model, value_range=request.value_range, batch_size=request.size)
    runner = Runner(
        request,
        LABELS,
        judge,
        ledger=Ledger(None, {}),
        progress=Progress(),
        is_random=is_random,
    )
    runner.look_at_clean()
    return runner


def stage(attack, **changes):
    values = {"key": "a", "label": "a", "role": "adaptive", "view": ModelView(NET)}
    return Stage(**{**values, "attack": attack, **changes})


class TestRunner:
    def test_breaks_what_lies_within_reach(self):
        # The margins 0.1, 0.7, 0.3 fall by at most 2 * 0.2; the last image is wrong.
        runner = make_runner()
        assert runner.standing.tolist() == [0, 1, 2]
        found = runner.run(stage(PGD(0.2)), runner.standing, passes=40)
        assert found["wrong"].tolist() == [1, 0, 1]
        assert found["predicted"].tolist() == [0, 1, 0]
        assert runner.standing.tolist() == [1]
        assert runner.settle().tolist() == [[True, False, True, True]]

    def test_stage_may_have_another_epsilon_and_leave_no_mark(self):
        runner = make_runner()
        wide = stage(FGSM(0.2), role="curve", epsilon=0.4)
        assert runner.run(wide, np.arange(3), passes=1)["wrong"].tolist() == [1, 1, 1]
        assert runner.standing.tolist() == [0, 1, 2]

    def test_what_leaves_the_ball_does_not_count(self):
        runner = make_runner()
        outside = stage(Outside(0.2), stop_early=False)
        rows = np.array([1, 2])
        assert runner.run(outside, rows, passes=1)["wrong"].tolist() == [0, 0]

    def test_targets_are_the_likeliest_wrong_classes(self):
        net = linear_net([[0.0, 0.0], [1.0, -1.0], [0.5, -0.5]], [0.0, 0.0, 0.0])
        runner = make_runner(net)
        attack = PGD(0.2, targeted=True)
        aimed = stage(attack, target_rank=2, view=ModelView(net))
        found = runner.run(aimed, np.array([0]), passes=40)
        assert found["predicted"].tolist() == [0]

    def test_no_rows_are_no_work(self):
        found = make_runner().run(stage(PGD(0.2)), np.arange(0), passes=1)
        assert found["wrong"].tolist() == []

    def test_blocks_change_nothing(self):
        several = make_runner().run(stage(FGSM(0.2)), np.arange(3), passes=1)
        one = make_runner(batch_size=8).run(stage(FGSM(0.2)), np.arange(3), passes=1)
        assert several["wrong"].tolist() == one["wrong"].tolist()

    def test_forgives(self):
        runner = make_runner()
        runner.run(stage(PGD(0.2)), runner.standing, passes=40)
        runner.forgive(np.array([0, 3]))
        assert runner.wrong.tolist() == [0, 0, 1, 1]

    def test_random_model_keeps_the_worst_images(self):
        net = small_net(front=[RandomNoise(0.3, seed=0)])
        generator = np.random.default_rng(0)
        images = generator.uniform(size=(4, 8, 8, 1)).astype("float32")
        runner = make_runner(net, images, is_random=True)
        before = runner.wrong.copy()
        noisy = stage(PGD(0.2, steps=5), view=ModelView(net, is_random=True))
        found = runner.run(noisy, np.arange(4), passes=5)["wrong"]
        assert (runner.wrong == np.maximum(before, found)).all()
        worse = found > before
        assert (runner.worst != images).any(axis=(1, 2, 3)).tolist() == worse.tolist()
        assert runner.settle().shape == (DRAWS, 4)

    def test_tells_what_is_left(self):
        told = []
        runner = make_runner()
        runner._progress.update = lambda attack, **facts: told.append(facts["left"])
        runner.run(stage(FGSM(0.2), stop_early=False), np.arange(3), passes=1)
        assert told == [3, 1]


def test_labels_must_fit():
    with pytest.raises(ValueError, match="as many as the images"):
        make_runner(labels=[1, 1])
