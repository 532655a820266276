import json

from keras_advdef.cli.demo._report import demo_report


class TestDemoReport:
    def test_survives_json(self, demo_run):
        report = demo_report(demo_run)
        assert json.loads(json.dumps(report, allow_nan=False)) == report

    def test_holds_what_was_measured(self, demo_run):
        report = demo_report(demo_run)
        assert report["headline"] == demo_run.headline
        assert report["command"].startswith("keras-advdef demo --data toy")
        assert report["epsilon"] == 0.2
        assert report["norm"] == "linf"
        assert report["interval_method"] == "clopper-pearson"
        assert report["data"]["test_images"] == 12
        assert report["budget"]["attack"]["steps"] == 40
        adversarial = report["defended"]["adversarial"]
        assert adversarial["attack"] == "PGD-40"
        assert adversarial["accuracy"] == 8 / 12
        assert adversarial["count"] == 12
        low, high = adversarial["interval"]
        assert low < 8 / 12 < high

    def test_curve_has_a_point_an_epsilon(self, demo_run):
        curve = demo_report(demo_run)["curve"]
        assert len(curve["epsilons"]) == 6
        for name in ("undefended", "defended"):
            assert len(curve[name]) == 6
