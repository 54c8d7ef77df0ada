"""One training: its record, training, evaluation, calibration, few-shot study."""
