"""A float transformer → an FX graph whose linear layers are swapped for one target's operators."""

from targets.base import NotNative, TargetUnavailable, UsageError
from toolkit.capture import CaptureError, capture
from toolkit.pipeline import transform
from toolkit.recipe import Recipe, Rule
from toolkit.report import Report, report_of

__all__ = [
    "CaptureError",
    "NotNative",
    "Recipe",
    "Report",
    "Rule",
    "TargetUnavailable",
    "UsageError",
    "capture",
    "report_of",
    "transform",
]
