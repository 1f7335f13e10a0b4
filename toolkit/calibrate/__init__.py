"""Calibration: what the inputs of the linears span, observed on data, as one scale and zero point for each."""

from toolkit.calibrate.calibrate import Batches, Calibration, Progress, calibrate, require_data

__all__ = ["Batches", "Calibration", "Progress", "calibrate", "require_data"]
