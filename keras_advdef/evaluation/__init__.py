"""Attacks a model as its critics would, and reports honestly what was found."""

from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate
from keras_advdef.evaluation.better_than_chance import better_than_chance
from keras_advdef.evaluation.certify_cross_lipschitz import certify_cross_lipschitz
from keras_advdef.evaluation.certify_intervals import certify_intervals
from keras_advdef.evaluation.certify_lipschitz_margin import certify_lipschitz_margin
from keras_advdef.evaluation.check import Check
from keras_advdef.evaluation.compare_reports import compare_reports
from keras_advdef.evaluation.corruption_report import CorruptionReport
from keras_advdef.evaluation.detection_report import DetectionReport
from keras_advdef.evaluation.draw_curve import draw_curve
from keras_advdef.evaluation.evaluate_corruptions import evaluate_corruptions
from keras_advdef.evaluation.evaluate_detector import evaluate_detector
from keras_advdef.evaluation.evaluate_robustness import evaluate_robustness
from keras_advdef.evaluation.interval_certificates import IntervalCertificates
from keras_advdef.evaluation.robustness_report import RobustnessReport

__all__ = [
    "AccuracyEstimate",
    "Check",
    "CorruptionReport",
    "DetectionReport",
    "IntervalCertificates",
    "RobustnessReport",
    "better_than_chance",
    "certify_cross_lipschitz",
    "certify_intervals",
    "certify_lipschitz_margin",
    "compare_reports",
    "draw_curve",
    "evaluate_corruptions",
    "evaluate_detector",
    "evaluate_robustness",
]
