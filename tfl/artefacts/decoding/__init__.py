"""Encoded images decoded inside a TensorFlow graph, to the pixels that training saw."""
