"""The combined model, raw images in and probabilities out: export, proof of parity, prediction."""
