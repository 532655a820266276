from keras_advdef.cli.demo._budget import Budget


class TestBudget:
    def test_known_data_has_its_own(self):
        assert Budget.for_data("mnist").epsilon == 0.3
        assert Budget.for_data("digits").test_images == 400

    def test_other_data_gets_eight_levels(self):
        assert Budget.for_data("photos.npz").epsilon == 8 / 255
