import numpy as np
import pytest

from keras_advdef.evaluation._run.image_records import ImageRecords

LABELS = np.array([0, 1, 2, 0])


def part(wrong, predicted):
    return {
        "wrong": np.array(wrong),
        "predicted": np.array(predicted),
        "shown": np.full((1, 2, 2, 1), 0.25),
    }


@pytest.fixture
def records():
    return ImageRecords(LABELS, draws=10)


class TestImageRecords:
    def test_keeps_the_results_of_each_stage(self, records):
        records.note("a", np.array([1, 3]), part([10, 0], [2, 0]))
        records.note("a", np.array([2]), part([4], [1]))
        records.note("b", np.array([0]), part([3], [0]))
        assert records.wrong["a"].tolist() == [-1, 10, 4, 0]
        assert records.wrong["b"].tolist() == [3, -1, -1, -1]

    def test_first_broken_image_is_the_example(self, records):
        records.note("a", np.array([0, 2]), part([0, 6], [0, 1]))
        example = records.example
        assert (example.row, example.predicted, example.is_broken) == (2, 1, True)
        records.note("b", np.array([1, 3]), part([9, 9], [0, 1]))
        assert records.example.row == 1
        records.note("c", np.array([0]), part([5], [0]))
        assert records.example.row == 1

    def test_broken_image_of_its_true_class_is_no_example(self, records):
        """In the draw that is shown, a random model may still be right."""
        records.note("a", np.array([0, 1]), part([9, 9], [0, 2]))
        assert records.example.row == 1

    def test_unbroken_image_serves_if_there_is_no_other(self, records):
        records.note("a", np.array([2, 3]), part([0, 1], [2, 0]))
        assert (records.example.row, records.example.is_broken) == (2, False)

    def test_several_draws_after_all(self):
        records = ImageRecords(LABELS, draws=1)
        records.note("naive", np.array([0, 1]), part([1, 0], [1, 1]))
        other = records.redrawn(np.array([7, 2, 0, 0]), 10)
        assert other.draws == 10
        assert other.wrong["naive"].tolist() == [7, 2, -1, -1]
        # It was chosen by a single draw.
        assert other.example is None

    def test_alarms_are_no_success(self, records):
        records.note("naive", np.array([0, 1, 2]), part([10, 10, 10], [3, 2, 3]))
        other = records.rejecting(3, np.array([0, 2]))
        assert other.wrong["naive"].tolist() == [0, 10, 0, -1]
        assert not other.example.is_broken
        assert records.wrong["naive"].tolist() == [10, 10, 10, -1]
        other.note("a", np.array([1]), part([10], [2]))
        assert other.example.row == 1
