import pytest

from keras_advdef.cli.demo_run import DemoRun


class TestDemoRun:
    @pytest.mark.parametrize("epsilon", [8 / 255, 0.15, 0.3, 0.9, 1.0])
    def test_curve_goes_past_epsilon_within_the_range(self, epsilon):
        epsilons = DemoRun.epsilons_around(epsilon)
        assert epsilons[0] == 0.0
        assert epsilon in epsilons
        assert epsilons == sorted(set(epsilons))
        assert epsilons[-1] == pytest.approx(min(1.0, 1.5 * epsilon), rel=1e-5)

    def test_table_values_stand_on_the_curve(self, demo_run):
        # The fixture's counts fall from 12, one for each epsilon.
        assert demo_run.clean("defended").correct == 12
        assert demo_run.adversarial("defended").correct == 8
        assert demo_run.adversarial("undefended").correct == 4

    def test_headline_names_the_attack_and_nothing_more(self, demo_run):
        assert demo_run.headline.startswith(
            "Accuracy under PGD-40 (linf, epsilon 0.2) on 12 test images of toy: "
            "undefended 33.3 % ["
        )
        assert "robust" not in demo_run.headline
