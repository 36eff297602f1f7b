"""The conversion of float32 graphs to FP16."""
