import numpy as np
from PIL import Image

from keras_advdef.cli.demo._curve_plot import save_curve_plot
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate


class TestSaveCurvePlot:
    def test_writes_a_picture(self, tmp_path):
        path = tmp_path / "curve.png"
        curves = {
            "undefended": [AccuracyEstimate(n, 20) for n in (20, 5, 0)],
            "defended": [AccuracyEstimate(n, 20) for n in (19, 15, 10)],
        }
        save_curve_plot(
            path, title="to$ $y^", epsilon=0.1, epsilons=[0.0, 0.1, 0.2], curves=curves
        )
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        assert pixels.shape == (660, 960, 3)
        # More than a blank page: many colours.
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
