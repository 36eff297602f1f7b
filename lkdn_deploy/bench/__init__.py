"""Benchmarks: time, memory, counted operations and quality of models on every engine."""
