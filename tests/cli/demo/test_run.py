import dataclasses

import numpy as np
import pytest

from keras_advdef.cli.demo._run import DemoRun
from keras_advdef.evaluation.better_than_chance import better_than_chance


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

    def test_a_constant_answer_is_named_first(self, demo_run):
        assert demo_run.failed_checks == []
        constant = better_than_chance(np.zeros(12, int), np.arange(12) % 2)
        checks = {**demo_run.checks, "undefended": constant}
        run = dataclasses.replace(demo_run, checks=checks)
        start = (
            "Undefended: the model is at chance, predicting class 0 for every image: "
            "wrong `value_range`, wrong labels, or not trained? 6 of 12 clean images "
        )
        (alarm,) = run.failed_checks
        assert alarm.startswith(start)
        assert run.headline.startswith(f"{alarm} Accuracy under PGD-40")
