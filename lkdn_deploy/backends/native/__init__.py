"""The native engine: a compiler for convolutional networks on the CPU. ``session`` has the overview."""
