"""Operations of a network without running it: Multi-Adds, memory traffic, and the roofline's least times."""
