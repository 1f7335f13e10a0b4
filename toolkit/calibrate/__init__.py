"""Calibration: what the inputs of the linears span, observed on data, as one scale and zero point for each."""

from toolkit.calibrate.calibrate import Calibration, calibrate, require_data
from toolkit.calibrate.place import Scratch
from toolkit.calibrate.stream import Batches, Progress, Told

__all__ = ["Batches", "Calibration", "Progress", "Scratch", "Told", "calibrate", "require_data"]
