"""Re-parameterisation: branches of a training network collapsed into single convolutions. numpy, float64 inside."""
