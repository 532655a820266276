"""A stopped evaluation resumes, and ends as if it had not been stopped."""

import contextlib
import functools
import io
import itertools
import json
import shutil
import types

import keras
import numpy as np
import pytest

from keras_advdef.attacks import APGD, FGSM, PGD, LatentSpaceAttack
from keras_advdef.evaluation import evaluate_corruptions, evaluate_robustness
from keras_advdef.evaluation._corrupt.strength import CORRUPTIONS
from keras_advdef.evaluation._run import runner
from keras_advdef.evaluation._run.ledger import Ledger
from keras_advdef.layers import RandomNoise
from keras_advdef.models import DefenseGAN
from tests.support import defended_nets
from tests.support.damages import BYTES
from tests.support.generators import small_generator
from tests.support.nets import linear_net, small_net

ATTACKS = [PGD(0.1, steps=3), PGD(0.1, steps=5, loss="margin")]


class Stopped(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def evaluate(trained_net, digits):
    def run(output, model=trained_net, **arguments):
        settings = {
            "epsilon": 0.1,
            "attacks": ATTACKS,
            "curve": [0.05],
            "budget": "quick",
            # Two blocks of one shape, which is traced once.
            "batch_size": 7,
            "verbose": 0,
            **arguments,
        }
        images, labels = digits.x_test[:14], digits.y_test[:14]
        return evaluate_robustness(model, images, labels, output=output, **settings)

    return run


@pytest.fixture(scope="module")
def whole(evaluate):
    """The report of a run that nothing stopped."""
    return evaluate(None)


def stop_after(monkeypatch, parts):
    """Lets so many parts be computed, then ends everything."""
    computed, write = [], Ledger._write

    def counted(self, name, arrays):
        if len(computed) == parts:
            raise Stopped
        computed.append(name)
        write(self, name, arrays)

    monkeypatch.setattr(Ledger, "_write", counted)
    return computed


def stop_at_second(monkeypatch, name):
    """Ends everything at the second part of a name, which is in the second section."""
    asked, write = [], Ledger._write

    def counted(self, given, arrays):
        asked.append(given)
        if asked.count(name) == 2:
            raise Stopped
        write(self, given, arrays)

    monkeypatch.setattr(Ledger, "_write", counted)


@pytest.fixture(scope="module")
def stopped(evaluate, tmp_path_factory):
    """The folder of a run that ended after ten parts, and their names."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        names = stop_after(patch, 10)
        with pytest.raises(Stopped):
            evaluate(folder)
    assert not (folder / "report.json").exists()
    return types.SimpleNamespace(folder=folder, names=names)


@pytest.fixture
def stopped_folder(stopped, tmp_path):
    """A copy of the folder, to be changed."""
    return shutil.copytree(stopped.folder, tmp_path / "stopped")


@pytest.fixture(scope="module")
def resumed(evaluate, stopped, tmp_path_factory):
    """The same run brought to its end: its folder, report, parts and output."""
    folder = tmp_path_factory.mktemp("resumed") / "out"
    shutil.copytree(stopped.folder, folder)
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(io.StringIO()) as printed,
    ):
        names = stop_after(patch, 1000)
        report = evaluate(folder, verbose=1)
    found = {"folder": folder, "report": report, "names": names}
    return types.SimpleNamespace(**found, printed=printed.getvalue())


def noisy_net():
    """A random model that is traced soon."""
    layers = [RandomNoise(0.1, seed=0), keras.layers.Flatten(), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers])


def without_run(report):
    return json.dumps({k: v for k, v in report.data.items() if k != "run"})


class TestEvaluation:
    def test_goes_on_where_it_was_stopped(self, whole, stopped, resumed):
        printed = resumed.printed
        assert printed.startswith("Resuming this evaluation: 10 finished parts are in ")
        assert printed.count("Continuing with ") == 1
        assert len(stopped.names) == 10
        assert not set(stopped.names) & set(resumed.names)
        assert without_run(resumed.report) == without_run(whole)
        names = sorted(path.name for path in resumed.folder.iterdir())
        files = [f"report.{suffix}" for suffix in ("html", "json", "md", "png")]
        kept = ["example.npz", "gallery.npz", "images.csv"]
        assert names == [*kept, *files, "seal.json"]
        assert resumed.report.images == whole.images
        assert (resumed.report.example.adversarial == whole.example.adversarial).all()

    def test_corruptions_are_those_of_their_function(
        self, evaluate, whole, trained_net, digits, tmp_path
    ):
        folder = tmp_path / "corrupted"
        with pytest.MonkeyPatch.context() as patch:
            part = Ledger.part

            def until_fog(self, name, compute, what):
                if name == "corruption-fog":
                    raise Stopped
                return part(self, name, compute, what)

            patch.setattr(Ledger, "part", until_fog)
            with pytest.raises(Stopped):
                evaluate(folder, corruptions=True)
        with pytest.MonkeyPatch.context() as patch:
            names = stop_after(patch, 1000)
            report = evaluate(folder, corruptions=True)
        assert names == [f"corruption-{kind}" for kind in CORRUPTIONS[9:]]
        expected = evaluate_corruptions(
            trained_net, digits.x_test[:14], digits.y_test[:14], batch_size=7, verbose=0
        )
        assert report.data["corruptions"] == expected.to_json()
        assert (report.corrupted["fog"] == expected.examples["fog"]).all()
        assert (folder / "corruptions.png").exists()
        # All else is as without.
        report.data["corruptions"] = None
        assert without_run(report) == without_run(whole)

    def test_damaged_parts_change_nothing(
        self, evaluate, whole, stopped_folder, capsys
    ):
        parts = sorted((stopped_folder / "progress").glob("*.part"))
        for damage, path in zip(itertools.cycle(BYTES.values()), parts[:8]):
            damage(path)
        report = evaluate(stopped_folder, verbose=1)
        assert without_run(report) == without_run(whole)
        assert capsys.readouterr().out.count("is damaged; computing it again") == 8

    def test_folder_that_vanishes_is_a_sentence(self, evaluate, tmp_path, monkeypatch):
        output = tmp_path / "out"
        monkeypatch.setattr(
            runner, "check_finite_logits", lambda *facts: shutil.rmtree(output)
        )
        with pytest.raises(ValueError, match=r"No such file or directory\. Finished"):
            evaluate(output)
        assert not output.exists()

    def test_finished_run_only_returns(self, evaluate, resumed, monkeypatch):
        stop_after(monkeypatch, 0)
        again = evaluate(resumed.folder)
        assert again.data == resumed.report.data
        assert (again.gallery.clean == resumed.report.gallery.clean).all()

    @pytest.mark.parametrize(
        ("change", "name"),
        [
            ({"epsilon": 0.2}, "epsilon"),
            ({"norm": "l2", "attacks": [PGD(0.1, norm="l2")]}, "norm"),
            ({"seed": 1}, "seed"),
            ({"budget": "standard"}, "budget"),
            ({"model": small_net()}, "model"),
        ],
    )
    def test_other_evaluation_is_refused(self, change, name, evaluate, stopped_folder):
        with pytest.raises(ValueError, match=f"has another .*{name}"):
            evaluate(stopped_folder, **change)

    def test_other_evaluation_is_refused_when_one_is_finished(self, evaluate, resumed):
        with pytest.raises(ValueError, match="has another seed"):
            evaluate(resumed.folder, seed=1)
        assert evaluate(resumed.folder).data == resumed.report.data

    def test_report_of_other_origin_is_left_alone(self, evaluate, tmp_path):
        (tmp_path / "report.json").write_text("{}")
        with pytest.raises(ValueError, match=r"a foreign report\.json"):
            evaluate(tmp_path)
        assert (tmp_path / "report.json").read_text() == "{}"

    @pytest.mark.slow
    @pytest.mark.nightly
    def test_random_model_goes_on_too(self, evaluate, digits, tmp_path, monkeypatch):
        model = defended_nets.fitted(noisy_net, digits)
        evaluate = functools.partial(evaluate, model=model, attacks=[], curve=[])
        whole = evaluate(None)
        with monkeypatch.context() as patch:
            stop_after(patch, 9)
            with pytest.raises(Stopped):
                evaluate(tmp_path)
        needed, check = [], Ledger.check_room

        def measured(ledger, images):
            needed.append(images)
            check(ledger, images)

        def tidy(ledger, *, is_finished):
            parts = tmp_path.glob("progress/*.part")
            needed.append(sum(path.stat().st_size for path in parts))

        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "check_room", measured)
            patch.setattr(Ledger, "_tidy", tidy)
            assert without_run(evaluate(tmp_path)) == without_run(whole)
        images, taken = needed
        # What else stands in parts is little, and what it adds up to is allowed for.
        assert images / 4 < taken < images + 2**20

    def test_too_little_room_is_told_before_the_attacks(
        self, evaluate, tmp_path, monkeypatch
    ):
        disk = shutil.disk_usage(tmp_path)._replace(total=2**40, free=2**20)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: disk)
        stop_after(monkeypatch, 0)
        with pytest.raises(ValueError, match=r"are needed, but only 1 MiB are free"):
            evaluate(tmp_path / "out")
        assert list(tmp_path.iterdir()) == []


# Each of the attacks goes through the searches, whose gradients take long to trace.
@pytest.mark.nightly
def test_searches_of_a_latent_space_are_told(evaluate, trained_net, capsys):
    model = DefenseGAN(small_generator(), trained_net, steps=3, restarts=2, seed=0)
    attacks = [LatentSpaceAttack(0.1, steps=2, restarts=1)]
    report = evaluate(None, model, attacks=attacks, curve=[], verbose=1)
    shown = "".join(capsys.readouterr())
    assert "a latent space with 6 generator passes" in shown
    names = [attack["name"] for attack in report.data["attacks"]]
    assert "LatentSpaceAttack-2" in names
    assert report.data["defences"] == ["DefenseGAN", "GenerativeProjection"]


# Weights of a net of two classes, and an epsilon for each norm.
_WEIGHTS = np.random.default_rng(3).normal(size=16)
_BALLS = {"linf": 0.01, "l2": 0.25}


def _two_classes(count):
    """A linear net, images near the middle of the range, labels, and their margins."""
    net = linear_net([np.zeros(16), _WEIGHTS], [0.0, -0.5 * _WEIGHTS.sum()], (4, 4, 1))
    images = np.random.default_rng(4).uniform(0.4, 0.6, (count, 4, 4, 1))
    margins = (images.reshape(count, 16) - 0.5) @ _WEIGHTS
    return net, images, (margins > 0).astype(int), abs(margins)


@pytest.fixture(scope="module")
def evaluate_norms():
    """Evaluates the linear net under both norms."""
    net, images, labels, _ = _two_classes(40)
    attacks = [APGD(each, norm=norm, steps=5) for norm, each in _BALLS.items()]

    def run(output=None, **changes):
        arguments = {"epsilon": _BALLS, "norms": [*_BALLS], "attacks": attacks}
        arguments |= {"curve": [], "budget": "quick", "verbose": 0}
        arguments |= {"output": output, **changes}
        return evaluate_robustness(net, images, labels, **arguments)

    return run


@pytest.fixture(scope="module")
def under_norms(evaluate_norms):
    return evaluate_norms()


class TestNorms:
    def test_accuracies_are_those_of_a_linear_net(self, under_norms):
        """The best perturbation moves a margin by epsilon times the dual norm."""
        duals = {"linf": 1, "l2": 2}
        *_, margins = _two_classes(40)
        broken = {
            norm: margins < each * np.linalg.norm(_WEIGHTS, duals[norm])
            for norm, each in _BALLS.items()
        }
        for found in under_norms.data["norms"]:
            assert found["epsilon"] == _BALLS[found["norm"]]
            expected = 1.0 - broken[found["norm"]].mean()
            assert found["adaptive"]["accuracy"] == pytest.approx(expected)
            assert found["clean"]["accuracy"] == 1.0
        union = np.any([*broken.values()], axis=0)
        found = under_norms.data["union"]
        assert found["accuracy"] == pytest.approx(1.0 - union.mean())

    def test_the_first_norm_is_the_main_one(self, under_norms):
        first = under_norms.data["norms"][0]
        assert first["norm"] == under_norms.data["norm"] == "linf"
        assert first["headline"] == under_norms.headline
        assert first["adaptive"] == under_norms.adaptive

    def test_says_where_accuracy_is_left(self, under_norms):
        finding = under_norms.data["union"]["finding"]
        assert finding.startswith("Accuracy is left in linf only: under l2 0.25 it ")

    def test_goes_on_where_it_was_stopped(
        self, evaluate_norms, under_norms, tmp_path, monkeypatch
    ):
        with monkeypatch.context() as patch:
            stop_at_second(patch, "check-fgsm-0000")
            with pytest.raises(Stopped):
                evaluate_norms(tmp_path)
        # It was stopped in the second section.
        parts = {path.stem for path in tmp_path.glob("progress/*.part")}
        assert "clean" in parts
        assert "l2-clean" in parts
        with monkeypatch.context() as patch:
            computed = stop_after(patch, 1000)
            report = evaluate_norms(tmp_path)
        assert "clean" not in computed
        assert without_run(report) == without_run(under_norms)
        assert not (tmp_path / "progress").exists()


class _OffTheGrid(keras.layers.Layer):
    """Adds noise to the logits of images whose values are no multiples of 1/64."""

    def __init__(self):
        super().__init__()
        self.seeds = keras.random.SeedGenerator(0)

    def call(self, inputs):
        images, logits = inputs
        scaled = 64.0 * images
        gaps = keras.ops.abs(scaled - keras.ops.round(scaled))
        is_off = keras.ops.max(gaps, axis=(1, 2, 3), keepdims=False) > 1e-3
        shape = keras.ops.shape(logits)
        noise = keras.random.uniform(shape, -1.0, 1.0, seed=self.seeds)
        return logits + noise * keras.ops.cast(is_off, "float32")[:, None]


@pytest.fixture(scope="module")
def off_the_grid():
    """The report on a net that is random under attack only."""
    net, images, labels, _ = _two_classes(20)
    inputs = keras.Input((4, 4, 1))
    model = keras.Model(inputs, _OffTheGrid()([inputs, net(inputs)]))
    return evaluate_robustness(
        model,
        np.round(64 * images) / 64,
        labels,
        epsilon=0.02,
        attacks=[FGSM(0.02)],
        curve=[],
        judgements=5,
        verbose=0,
    )


class TestRandomness:
    def test_is_noticed_and_judged_by_draws(self, off_the_grid):
        drawn = off_the_grid.adaptive["judgements"]
        assert drawn["draws"] == 5
        assert len({*drawn["evaluations"]}) > 1
        assert "the mean of 5 fresh draws of the model" in off_the_grid.headline
        (check,) = (
            each for each in off_the_grid.checks if each["name"] == "deterministic"
        )
        assert check["passed"] is False

    def test_attacks_average_over_draws_from_then_on(self, off_the_grid):
        naive, *others = off_the_grid.data["attacks"]
        assert "EOT" not in naive["name"]
        assert "EOT 20" in others[0]["name"]

    def test_gallery_shows_what_mostly_fools_the_model(self, off_the_grid):
        gallery = off_the_grid.gallery
        assert (gallery.predicted != gallery.labels).all()
