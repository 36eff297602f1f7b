"""GELU without erf: x Phi(x) = x (1/2 + c P(c^2)), where c is x held within +-``END``.

P is a polynomial in w = 2 c^2 / END^2 - 1, fitted to (Phi(x) - 1/2) / x by ``tools/fit_gelu.py`` so that the largest
error of the whole, x^2 times that of P, is least: 9e-8, and 1e-6 as computed in float32. ONNX's Gelu is exact up to
what its erf is; networks change by a few 1e-6 by the difference.
"""

END = 5.5

COEFFICIENTS = (
    0.128551945, -0.0641723722, 0.0477367155, -0.0387908146, 0.0320880823, -0.0260776971, 0.0202361774,
    -0.0148146069, 0.0106612835, -0.007392372, 0.00388048938, -0.0014928974, 0.00134166062, -0.00127530703,
    0.000428809173,
)  # fmt: skip
"""Of w^0, w^1, …"""
