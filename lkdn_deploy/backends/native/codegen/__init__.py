"""Lowered stages to LLVM instructions."""
