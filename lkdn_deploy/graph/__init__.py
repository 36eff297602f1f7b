"""Rewrites of ONNX graphs: one pass a file, pure functions of a model."""
