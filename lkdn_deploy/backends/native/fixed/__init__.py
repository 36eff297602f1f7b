"""16-bit fixed point: a network's program with integers for weights and for most values."""
