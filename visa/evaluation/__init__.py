"""Scores a whole system over a folder in the ReVOS layout, or masks on disk by any benchmark's protocol.

from visa.evaluation import evaluate

report = evaluate(visa.load("embedded"), "data/benchmark")
print(report.table())
report.save("report.json")

from visa.evaluation import score_predictions       # as `python -m visa.evaluation` does

outcome = score_predictions("out", "mevis", "data/mevis")
print(outcome.table())
"""

from visa.evaluation.clip import open_clip
from visa.evaluation.control import another_clips_question
from visa.evaluation.from_disk import score_predictions
from visa.evaluation.outcome import Outcome
from visa.evaluation.report import Group, Report
from visa.evaluation.run import evaluate
from visa.evaluation.score import RIGHT_IOU, ExpressionScore, score_expression, tube_iou

__all__ = [
    "RIGHT_IOU",
    "ExpressionScore",
    "Group",
    "Outcome",
    "Report",
    "another_clips_question",
    "evaluate",
    "open_clip",
    "score_expression",
    "score_predictions",
    "tube_iou",
]
