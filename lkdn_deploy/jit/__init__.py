"""Just-in-time compilation for the processor of this machine: LLVM instructions, compiled and cached."""
