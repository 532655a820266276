import keras
import numpy as np
import pytest

from keras_advdef.core.progress import Progress
from keras_advdef.core.value_range import ValueRange
from keras_advdef.evaluation import AccuracyEstimate
from keras_advdef.evaluation._corrupt.corrupt import corrupt
from keras_advdef.evaluation._measure.corrupted_accuracy import (
    measure_corruptions,
    to_corrupt,
)
from keras_advdef.evaluation._run.judge import Judge
from keras_advdef.evaluation._run.ledger import Ledger


@pytest.fixture
def measured(net, images, labels):
    """Measures two corruptions, with a ledger in a folder if one is given."""

    def measure(ledger, begin):
        judge = Judge(net, value_range=ValueRange(), batch_size=4)
        return measure_corruptions(
            judge,
            images,
            labels,
            clean=AccuracyEstimate(3, 6),
            kinds=("fog", "snow"),
            severities=(1, 5),
            seed=4,
            ledger=ledger,
            begin=begin,
        )

    return measure


def values_of(report):
    return report.to_json()["corruptions"]


class TestMeasureCorruptions:
    def test_continues_after_the_last_finished_corruption(self, measured, tmp_path):
        class Stopped(Exception):
            pass

        def stop(kind):
            if kind == "snow":
                raise Stopped

        ledger = Ledger(tmp_path / "a", {"of": "net"}, Progress())
        with pytest.raises(Stopped):
            measured(ledger, stop)
        ledger.close(finished=False)
        parts = [path.name for path in (tmp_path / "a" / "progress").glob("*.part")]
        assert parts == ["corruption-fog.part"]
        ledger = Ledger(tmp_path / "a", {"of": "net"}, Progress())
        resumed = measured(ledger, lambda kind: None)
        ledger.close(finished=True)
        whole = measured(Ledger(None, {}, Progress()), lambda kind: None)
        assert values_of(resumed) == values_of(whole)

    def test_examples_are_of_the_middle_severity(self, measured, images):
        report = measured(Ledger(None, {}, Progress()), lambda kind: None)
        assert [*report.examples] == ["none", "fog", "snow"]
        np.testing.assert_array_equal(report.examples["none"], images[0])
        expected = corrupt(images[:1], "fog", 5, seed=4)[0]
        np.testing.assert_array_equal(report.examples["fog"], expected)
        assert report.seed == 4


def test_channels_first_are_corrupted_as_last(images):
    colours = np.random.default_rng(0).random((2, 5, 4, 3)).astype("float32")
    judge = Judge(len, value_range=ValueRange(0.0, 2.0), batch_size=2)
    expected = to_corrupt(judge, 2 * colours)
    np.testing.assert_allclose(expected, colours)
    keras.config.set_image_data_format("channels_first")
    try:
        first = to_corrupt(judge, 2 * np.moveaxis(colours, -1, 1))
    finally:
        keras.config.set_image_data_format("channels_last")
    np.testing.assert_array_equal(first, expected)
