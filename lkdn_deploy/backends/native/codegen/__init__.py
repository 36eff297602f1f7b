"""Code generation: lowered stages, the loops that run them, and the output image as LLVM instructions."""
