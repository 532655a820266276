import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_advdef as advdef
from keras_advdef.recipes import harden
from keras_advdef.recipes._harden import plan, run
from tests.recipes.conftest import CLASSES, Lines, small_net, striped

_DATA = striped(90)
_HELD_OUT = striped(24, seed=1)
_FILES = (
    *("after", "before", "comparison.html", "epsilon.png", "hardened.json"),
    *("model.keras", "report.html", "report.png", "served"),
)


def _hardened(model, *, data=_DATA, held_out=_HELD_OUT, **changes):
    settings = {"epsilon": 0.1, "epochs": 3, "batch_size": 16, "verbose": 0}
    # "auto" depends on a clock.
    settings["precision"] = "float32"
    return harden(model, data, held_out, **{**settings, **changes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run from beginning to end, with its folder and what it said."""
    folder, lines = tmp_path_factory.mktemp("harden") / "out", Lines()
    hardened = _hardened(small_net(), epochs=6, output=folder, verbose=lines)
    return hardened, folder, lines.lines


class TopTwo(keras.metrics.SparseTopKCategoricalAccuracy):
    """A user's own metric."""

    def __init__(self):
        super().__init__(2, name="top_two")


class TestWholeRun:
    def test_writes_what_it_says(self, whole):
        hardened, folder, _ = whole
        assert sorted(path.name for path in folder.iterdir()) == sorted(_FILES)
        loaded = keras.saving.load_model(folder / "model.keras", safe_mode=True)
        served = tf.saved_model.load(folder / "served")
        images = _HELD_OUT[0]
        expected = hardened.model.predict(images, verbose=0)
        np.testing.assert_allclose(loaded.predict(images, verbose=0), expected)
        np.testing.assert_allclose(served.serve(images), expected, atol=1e-6)
        facts = json.loads((folder / "hardened.json").read_text())
        assert facts["facts"] == json.loads(json.dumps(hardened.facts))

    def test_is_more_robust_afterwards(self, whole):
        hardened, _, _ = whole
        before, after = hardened.before, hardened.after
        assert before.clean["count"] == after.clean["count"] == 12
        assert after.adaptive["accuracy"] > before.adaptive["accuracy"] + 0.3
        assert after.adaptive["accuracy"] > 1.2 / CLASSES

    def test_keeps_the_best_epoch(self, whole):
        hardened, _, _ = whole
        measured = hardened.history["val_adversarial_accuracy"]
        assert len(measured) == hardened.facts["epochs"] == 6
        assert hardened.facts["best_epoch"] == int(np.argmax(measured))

    def test_prints_the_plan_first(self, whole):
        _, _, lines = whole
        (plan,) = (at for at, line in enumerate(lines) if line.startswith("Plan: 6 "))
        first = next(at for at, line in enumerate(lines) if line.startswith("epoch 1"))
        assert plan < first
        assert "evaluation" in lines[plan]

    def test_says_both_numbers(self, whole):
        hardened, folder, _ = whole
        page = (folder / "report.html").read_text()
        for report in (hardened.before, hardened.after):
            percent = f"{100 * report.adaptive['accuracy']:.1f} %"
            assert percent in hardened.summary()
            assert percent in page

    def test_returns_a_finished_run(self, whole):
        hardened, folder, _ = whole
        lines, model = Lines(), small_net()
        again = _hardened(model, epochs=6, output=folder, verbose=lines)
        assert again.history == hardened.history
        assert again.after.headline == hardened.after.headline
        for one, other in zip(
            model.get_weights(), hardened.model.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(one, other)
        assert "already finished" in "".join(lines.lines)

    @pytest.mark.parametrize(
        ("changes", "other"),
        [
            ({"recipe": "pgd"}, "recipe"),
            ({"data": striped(90, seed=5)}, "train_data"),
            ({"epsilon": 0.2}, "epsilon"),
        ],
        ids=["recipe", "data", "epsilon"],
    )
    def test_refuses_another_run_in_its_folder(self, whole, changes, other):
        _, folder, _ = whole
        with pytest.raises(ValueError, match=f"holds a run with another {other}"):
            _hardened(small_net(), **{"epochs": 6, "output": folder, **changes})


@pytest.mark.usefixtures("unattacked")
class TestResume:
    @pytest.mark.parametrize(
        "recipe",
        [
            "fast",
            "certified",
            pytest.param("trades_awp", marks=pytest.mark.nightly),
        ],
    )
    def test_continues_bit_for_bit(self, tmp_path, recipe):
        straight = small_net()
        expected = _hardened(straight, recipe=recipe)
        stopped, resumed = small_net(), small_net()
        folder = tmp_path / "out"
        with pytest.raises(KeyboardInterrupt):
            _hardened(
                stopped, recipe=recipe, output=folder, verbose=Lines("epoch 2 of 3")
            )
        lines = Lines()
        found = _hardened(resumed, recipe=recipe, output=folder, verbose=lines)
        assert "Continuing after epoch 2." in lines.lines
        for one, other in zip(
            resumed.get_weights(), straight.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(one, other)
        assert found.history == expected.history

    def test_leaves_the_weights_of_a_failed_run(self):
        model = small_net()
        before = model.get_weights()
        with pytest.raises(KeyboardInterrupt):
            _hardened(model, verbose=Lines("Plan"))
        for one, other in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("unattacked")
class TestTraining:
    @pytest.mark.parametrize("norm", ["l2", "l1"])
    def test_norms(self, norm):
        hardened = _hardened(small_net(), norm=norm, epsilon=0.5, epochs=1)
        assert hardened.facts["epsilon_text"].startswith(norm)

    def test_in_place_and_compiled_like_the_user_did(self):
        model = small_net()
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=[TopTwo()])
        hardened = _hardened(model, epochs=1)
        assert hardened.model is model
        assert {"adversarial_top_two", "val_top_two"} <= hardened.history.keys()

    def test_frozen_layers_stay_frozen(self):
        model = small_net()
        model.layers[0].trainable = False
        before = model.layers[0].get_weights()[0]
        _hardened(model, epochs=1)
        np.testing.assert_array_equal(model.layers[0].get_weights()[0], before)

    def test_stops_and_keeps_the_best_weights_where_it_diverges(self, monkeypatch):
        class Diverging(run.OptimizerSchedule):
            def on_train_batch_begin(self, batch, logs=None):
                super().on_train_batch_begin(batch, logs)
                if int(self.model.optimizer.iterations) > 7:
                    self.model.optimizer.learning_rate = 1e30

        monkeypatch.setattr(run, "OptimizerSchedule", Diverging)
        hardened = _hardened(small_net(), epochs=4)
        assert "stopped after epoch 1" in hardened.facts["stopped"]
        assert hardened.facts["epochs"] == 1
        for weights in hardened.model.get_weights():
            assert np.isfinite(weights).all()

    def test_stops_where_single_steps_collapse(self, monkeypatch):
        measured = iter([(0.5, 0.4), (0.5, 0.4), (0.9, 0.0), (0.9, 0.0)])
        guard = run.CatastrophicOverfittingGuard
        monkeypatch.setattr(guard, "_measure", lambda self: next(measured))
        lines = Lines()
        hardened = _hardened(small_net(), epochs=4, verbose=lines)
        assert hardened.facts["epochs"] == 2
        assert "catastrophic overfitting" in hardened.facts["stopped"]
        assert any(
            "Catastrophic overfitting in epoch 2" in each for each in lines.lines
        )

    def test_stops_where_nothing_gets_better(self):
        lines = Lines()
        hardened = _hardened(
            small_net(), epochs=4, patience=1, learning_rate=1e-9, verbose=lines
        )
        stopped = "stopped early: no better epoch for 1 epochs"
        assert hardened.facts["stopped"] == stopped
        assert hardened.facts["epochs"] == 2
        assert f"Training {stopped}." in lines.lines

    def test_certificates_choose_the_epoch(self):
        lines = Lines()
        settings = {"recipe": "certified", "epsilon": 0.03, "verbose": lines}
        net = small_net(dropout=False)
        hardened = _hardened(net, epochs=6, learning_rate=0.01, **settings)
        certified = hardened.history["val_certified_accuracy"]
        assert certified[-1] > 0.3
        assert hardened.facts["best_epoch"] == int(np.argmax(certified))
        shown = f"certified {100 * certified[-1]:.1f} %"
        assert any(shown in line for line in lines.lines)
        whole = advdef.evaluation.certify_intervals(net, *_HELD_OUT, epsilon=0.03)
        assert whole.certified.mean() > 0.3

    def test_certificates_do_not_suit_all(self):
        with pytest.raises(ValueError, match='`norm` to be "linf" with the recipe'):
            _hardened(small_net(), recipe="certified", norm="l2")
        large = keras.Sequential(
            [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(CLASSES)]
        )
        data = np.zeros((9, 65, 8, 1), np.float32), np.arange(9) % CLASSES
        with pytest.raises(ValueError, match="images of more than 64 pixels a side"):
            _hardened(large, data=data, held_out=data, recipe="certified")
        unknown = keras.Sequential(
            [keras.layers.UpSampling2D(name="up"), keras.layers.Flatten()]
        )
        with pytest.raises(ValueError, match=r"`up` \(UpSampling2D\) is none"):
            _hardened(unknown, recipe="certified")

    def test_auto_precision_is_one_of_the_two(self):
        hardened = _hardened(small_net(), precision="auto", epochs=1)
        assert hardened.facts["precision"] in ("float32", "bfloat16")

    def test_minutes_choose_epochs(self, monkeypatch):
        monkeypatch.setattr(plan, "MOST_EPOCHS", 2)
        hardened = _hardened(small_net(), epochs=None, minutes=60.0)
        assert hardened.facts["epochs"] == 2

    def test_too_few_minutes_say_the_least(self):
        with pytest.raises(ValueError, match=r"about [\d.]+ minutes"):
            _hardened(small_net(), epochs=None, minutes=1e-6)


@pytest.mark.usefixtures("unattacked")
class TestData:
    @pytest.mark.parametrize("kind", ["dataset", "bytes", "npz", "tensors"])
    def test_forms(self, kind, tmp_path):
        images, labels = _DATA
        held_out, model, value_range = _HELD_OUT, small_net(), (0.0, 1.0)
        if kind == "dataset":
            data = tf.data.Dataset.from_tensor_slices(_DATA).shuffle(90).batch(7)
        elif kind == "tensors":
            data = tuple(map(tf.constant, _DATA))
        elif kind == "npz":
            data, held_out = tmp_path / "data.npz", None
            pairs = {"x_train": images, "y_train": labels}
            pairs |= {"x_test": _HELD_OUT[0], "y_test": _HELD_OUT[1]}
            np.savez(data, **pairs)
        else:
            data = np.round(255 * images).astype("uint8"), labels
            held_out, value_range = (255 * _HELD_OUT[0], _HELD_OUT[1]), (0.0, 255.0)
            model = keras.Sequential(
                [keras.Input((6, 6, 1)), keras.layers.Rescaling(1 / 255), small_net()]
            )
        epsilon = 0.1 * value_range[1]
        hardened = _hardened(
            model,
            data=data,
            held_out=held_out,
            value_range=value_range,
            epsilon=epsilon,
            epochs=1,
        )
        assert hardened.facts["data"] == (
            "90 training images, 12 to choose the epoch, 12 for the reports"
        )

    def test_holds_out_a_tenth(self):
        hardened = _hardened(small_net(), held_out=None, epochs=1)
        assert hardened.facts["data"].startswith("81 training images, 4 to choose")
        assert "9 of 90 training images are held out" in hardened.facts["notes"][0]

    def test_a_shuffled_data_set_can_be_continued(self, tmp_path):
        """It holds the same images in another order in each pass."""

        def data(seed):
            pairs = tf.data.Dataset.from_tensor_slices(_DATA)
            return pairs.shuffle(90, seed=seed).batch(7)

        folder, arguments = tmp_path / "out", {"epochs": 2, "held_out": None}
        with pytest.raises(KeyboardInterrupt):
            _hardened(
                small_net(),
                data=data(1),
                output=folder,
                verbose=Lines("epoch 1 of 2"),
                **arguments,
            )
        resumed = _hardened(small_net(), data=data(2), output=folder, **arguments)
        straight = _hardened(small_net(), data=data(3), **arguments)
        assert resumed.history == straight.history

    def test_a_stream_can_be_continued(self, tmp_path):
        folder = tmp_path / "out"
        with pytest.raises(KeyboardInterrupt):
            _hardened(
                small_net(),
                data=_Drawn(seed=1),
                output=folder,
                epochs=2,
                verbose=Lines("epoch 1 of 2"),
            )
        lines = Lines()
        _hardened(small_net(), data=_Drawn(), output=folder, epochs=2, verbose=lines)
        assert "Continuing after epoch 1." in lines.lines

    def test_streams_what_is_drawn_anew(self):
        hardened = _hardened(small_net(), data=_Drawn(), epochs=1)
        assert "that of train_data" in " ".join(hardened.facts["notes"])
        with pytest.raises(ValueError, match="draws other images in each pass"):
            _hardened(small_net(), data=_Drawn(), held_out=None)


class _Drawn(keras.utils.PyDataset):
    """Batches that are darkened anew in each pass."""

    def __init__(self, seed=0):
        super().__init__()
        self._generator = np.random.default_rng(seed)

    def __len__(self):
        return 5

    def __getitem__(self, index):
        rows = slice(18 * index, 18 * index + 18)
        images, labels = (each[rows] for each in _DATA)
        return images * self._generator.uniform(0.9, 1.0), labels


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"epsilon": 0}, "`epsilon` to be a finite number above 0"),
        ({"epsilon": 0.6}, "at most 0.5, half the value range"),
        ({"epsilon": 1e-5}, "at least 0.1 % of the value range"),
        ({"recipe": "slow"}, "`recipe` to be one of 'fast'"),
        ({"minutes": 0}, "`minutes` to be a finite number above 0"),
        ({"epochs": 0}, "`epochs` to be an integer of at least 1"),
        ({"augment": "no"}, "`augment` to be one of"),
        ({"averaging": 1.0}, "`averaging` to be a finite number"),
        ({"data": _DATA[0]}, "`train_data` to be a pair"),
        ({"data": (_DATA[0], _DATA[1][:5])}, "labels"),
        ({"data": (_DATA[0], _DATA[1] + 2)}, "labels"),
        ({"data": (2.0 * _DATA[0], _DATA[1])}, r"in the value range \[0, 1\]"),
        ({"data": "nowhere.npz"}, "`train_data` to be an existing .npz file"),
    ],
)
def test_refuses(changes, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence) as refused:
        _hardened(small_net(), **changes)
    assert str(refused.value).startswith("`")


def test_is_at_hand():
    assert advdef.harden is harden
