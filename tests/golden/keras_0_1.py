"""Writes the files of version 0.1 that today's package must still load.

They lie in `keras_0_1/`: five models as `.keras` files, `configs.json` with the config
of one object of each registered class, and `outputs.npz` with the images and with what
version 0.1 found when it loaded each model again: its predictions, its loss in one
further training step, and its predictions after that.

The package at commit 055d0820a1584afb9a9b2dd6ece7c6e1fdcd4718 wrote them. To write them
again, check that commit out, copy this file to its `tests/golden/`, and run there:

    python -m tests.golden.keras_0_1

It uses the names of that commit: leave them as they are when names change.
"""

import json
from pathlib import Path

import keras
import numpy as np

import keras_advdef as advdef

FOLDER = Path(__file__).with_suffix("")
MODELS = ("layers", "training", "distillation", "ensemble", "detector")
_PREFIX = "keras_advdef>"
# It has no config: that would hold a whole model without its weights.
_WITHOUT_CONFIG = {"keras_advdef>Transfer"}


def replay(name: str, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Returns a stored model's predictions, before and after a step, and its loss.

    Args:
        name: One of `MODELS`.
        images: Array of shape `(count, 8, 8, 1)`.
        labels: Integers of shape `(count,)`.
    """
    model = keras.models.load_model(FOLDER / f"{name}.keras")
    found = {f"{name}/before": _predicted(model, images)}
    if model.compiled:
        logs = model.train_on_batch(images, labels, return_dict=True)
        found[f"{name}/loss"] = np.float32(logs["loss"])
        found[f"{name}/after"] = _predicted(model, images)
    return found


def _predicted(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Returns the outputs; for a detector, probabilities and score side by side."""
    outputs = model.predict(images, verbose=0)
    if isinstance(outputs, dict):
        score = np.asarray(outputs["score"])[:, np.newaxis]
        return np.concatenate([outputs["probabilities"], score], axis=1)
    return outputs


def _net(*layers: keras.layers.Layer) -> keras.Sequential:
    first = keras.layers.Conv2D(3, 3, strides=2, activation="softplus")
    last = [keras.layers.Flatten(), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers, first, *last])


def _generator() -> keras.Sequential:
    layers = [keras.layers.Dense(64, activation="sigmoid")]
    shape = keras.layers.Reshape((8, 8, 1))
    return keras.Sequential([keras.Input((2,)), *layers, shape])


def _critic() -> keras.Sequential:
    return keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]
    )


def _combined() -> keras.Model:
    """A net with two branches joined by a convex combination."""
    inputs = keras.Input((8, 8, 1))
    branches = [
        keras.layers.Conv2D(2, 3, padding="same", activation="tanh")(inputs)
        for _ in range(2)
    ]
    joined = advdef.layers.ConvexCombination()(branches)
    flat = keras.layers.Flatten()(joined)
    return keras.Model(inputs, keras.layers.Dense(3)(flat))


def _layers(images: np.ndarray, labels: np.ndarray) -> keras.Model:
    """Most of the layers in one net, trained on the logit margin."""
    layers = advdef.layers
    quilting = layers.ImageQuilting(patch_size=3, overlap=1, neighbors=2)
    quilting.adapt(images[:4])
    net = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            quilting,
            layers.GenerativeProjection(_generator(), steps=2, restarts=2),
            layers.BitDepthReduction(4),
            layers.JPEGCompression((60, 90)),
            layers.MedianSmoothing(2),
            layers.NonLocalMeans(search=3, patch=3),
            layers.TotalVariationMinimization(steps=3),
            layers.RandomResizePad(9, 7),
            layers.RandomNoise(0.1),
            layers.ParsevalConv2D(
                3, 3, kernel_constraint=advdef.constraints.Parseval()
            ),
            layers.StochasticActivationPruning(fraction=0.5),
            layers.VariationalConv2D(2, 3, kl_weight=1e-3),
            layers.VariationalDepthwiseConv2D(3, kl_weight=1e-3),
            keras.layers.Flatten(),
            layers.VariationalDense(3, kl_weight=1e-3),
        ]
    )
    net.compile("sgd", advdef.losses.Margin())
    net.fit(images, labels, verbose=0)
    return net


def _training(images: np.ndarray, labels: np.ndarray) -> keras.Model:
    """An adversarially trained ensemble with objective, penalty and Adam's state."""
    ensemble = advdef.models.AveragingEnsemble([_net(), _combined()])
    model = advdef.training.AdversarialTrainingModel(
        ensemble,
        advdef.attacks.PGD(0.1, steps=3, loss=advdef.models.MemberDLR()),
        advdef.objectives.AdaptiveDiversityPromoting(),
        [advdef.objectives.CrossLipschitz(weight=0.1)],
        advdef.attacks.FGSM(0.1),
    )
    model.compile(
        keras.optimizers.Adam(0.01),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(images, labels, epochs=2, verbose=0)
    return model


def _distillation(images: np.ndarray, labels: np.ndarray) -> keras.Model:
    """A student and its teacher, both trained at a temperature."""
    model = advdef.training.DistillationTrainer(_net(), temperature=4.0)
    model.compile(keras.optimizers.SGD(0.1))
    model.fit_teacher(images, labels, verbose=0)
    model.fit(images, labels, verbose=0)
    return model


def _ensemble(images: np.ndarray, labels: np.ndarray) -> keras.Model:
    """A random classifier whose passes are averaged."""
    net = advdef.surgery.insert_noise(_net(), first=0.2, inner=0.1)
    model = advdef.models.RandomSelfEnsemble(net, samples=3)
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy"
    )
    model.fit(images, labels, verbose=0)
    return model


def _detector(images: np.ndarray, labels: np.ndarray) -> keras.Model:
    """A detector with a calibrated threshold."""
    del labels
    squeezers = [advdef.layers.BitDepthReduction(1), advdef.layers.MedianSmoothing(2)]
    detector = advdef.models.FeatureSqueezingDetector(_net(), squeezers)
    detector.calibrate(images, false_positive_rate=0.2)
    return detector


def _objects() -> list[object]:
    """Returns one object of each registered class that no model above holds."""
    attacks, objectives = advdef.attacks, advdef.objectives
    squeezing = attacks.PGD(0.2, loss=advdef.models.SqueezingAware(confidence=1.0))
    objects: list[object] = [
        getattr(attacks, name)(0.25)
        for name in ("APGD", "FAB", "FGSM", "SPSA", "Square", "AutoAttack")
    ]
    objects += [
        getattr(attacks, name)()
        for name in ("JSMA", "DeepFool", "CarliniWagner", "HopSkipJump")
    ]
    return [
        *objects,
        squeezing,
        attacks.BoundaryAttack(steps=9),
        attacks.PGD(0.1, loss=attacks.KLToClean()),
        attacks.PGD(0.1, loss=attacks.TargetedDLR(classes=2)),
        attacks.PGD(0.1, loss=attacks.ClassificationLoss(keras.losses.Hinge())),
        advdef.models.LatentSpaceAttack(0.3, steps=7),
        advdef.models.SmoothedClassifier(_net(), stddev=0.25, samples=5),
        advdef.models.DefenseGAN(_generator(), _net(), steps=2, restarts=2),
        advdef.training.WassersteinGAN(_generator(), _critic(), latent_dim=2),
        objectives.CrossEntropy(),
        objectives.AdversarialCrossEntropy(clean_weight=0.25),
        objectives.DeepDefense(weight=3.0, steps=2),
        advdef.constraints.ProbabilitySimplex(),
        advdef.losses.AdaptiveDiversity(),
        advdef.losses.DifferenceOfLogitsRatio(),
        advdef.data.EpochShuffle(seed=4),
    ]


def _all_configs(models: list[keras.Model]) -> list[object]:
    """Returns the configs, which together hold every registered name."""
    serialize = keras.saving.serialize_keras_object
    configs = [serialize(each) for each in _objects()]
    text = json.dumps(configs) + json.dumps([serialize(each) for each in models])
    names = [
        name
        for name in keras.saving.get_custom_objects()
        if name.startswith(_PREFIX)
        and name not in _WITHOUT_CONFIG
        and json.dumps(name) not in text
    ]
    if names:
        raise SystemExit(f"no config of {names}")
    return configs


def main() -> None:
    """Writes all files."""
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    images = generator.uniform(0.05, 0.95, (12, 8, 8, 1)).astype("float32")
    labels = np.arange(12) % 3
    makers = (_layers, _training, _distillation, _ensemble, _detector)
    models = [make(images, labels) for make in makers]
    configs = _all_configs(models)
    FOLDER.mkdir(exist_ok=True)
    found = {"images": images, "labels": labels}
    for name, model in zip(MODELS, models, strict=True):
        model.save(FOLDER / f"{name}.keras")
        found.update(replay(name, images, labels))
    text = json.dumps(configs, indent=1, sort_keys=True)
    (FOLDER / "configs.json").write_text(text + "\n", encoding="utf-8")
    np.savez_compressed(FOLDER / "outputs.npz", **found)


if __name__ == "__main__":
    main()
