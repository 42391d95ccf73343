"""Scores a whole system over a folder in the ReVOS layout.

from visa.evaluation import evaluate

report = evaluate(visa.load("embedded"), "data/benchmark")
print(report.table())
report.save("report.json")
"""

from visa.evaluation.clip import open_clip
from visa.evaluation.control import another_clips_question
from visa.evaluation.report import Group, Report
from visa.evaluation.run import evaluate
from visa.evaluation.score import RIGHT_IOU, ExpressionScore, score_expression, tube_iou

__all__ = [
    "RIGHT_IOU",
    "ExpressionScore",
    "Group",
    "Report",
    "another_clips_question",
    "evaluate",
    "open_clip",
    "score_expression",
    "tube_iou",
]
