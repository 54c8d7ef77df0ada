"""Runs: one training each, with its record, metrics, calibration and pictures; and few-shot studies."""
