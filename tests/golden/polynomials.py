"""Coefficients of crates/kernels/src/activation/math.rs, lowest power first.

    python -m venv venv && venv/bin/pip install numpy mpmath && venv/bin/python tests/golden/polynomials.py

Each polynomial has about the least maximum of the error relative to the function that it is part of: a weighted
least-squares fit whose weights grow where the error is large (Lawson 1961). The error printed is that of the polynomial in
f64 with coefficients rounded to f32.
"""

import mpmath as mp
import numpy as np

mp.mp.dps = 40


def fit(name, variable, target, scale, degree):
    """`target ≈ P(variable)`, where an error of P counts relative to `scale`: all of them arrays."""
    low, high = variable.min(), variable.max()
    basis = np.polynomial.chebyshev.chebvander((2 * variable - low - high) / (high - low), degree)
    weights = np.ones(len(variable))
    for _ in range(200):
        root = np.sqrt(weights) / scale
        solution, *_ = np.linalg.lstsq(basis * root[:, None], target * root, rcond=None)
        error = np.abs(basis @ solution - target) / scale
        weights *= error / error.max() + 1e-3
        weights /= weights.sum()
    polynomial = np.polynomial.Chebyshev(solution, domain=[low, high]).convert(kind=np.polynomial.Polynomial)
    rounded = polynomial.coef.astype(np.float32)
    error = np.abs(np.polynomial.polynomial.polyval(variable, rounded.astype(float)) - target) / scale
    print(f"{name}: error {error.max():.1e}")
    print(", ".join(np.format_float_scientific(c, unique=True, trim="-") for c in rounded))


def of(function, xs):
    return np.array([float(function(mp.mpf(float(x)))) for x in xs])


# e^r = 1 + r + r² P(r)
r = np.linspace(-0.35, 0.35, 1501)
r = r[np.abs(r) > 1e-3]
fit("EXP", r, of(lambda r: (mp.exp(r) - 1 - r) / r**2, r), of(lambda r: mp.exp(r) / r**2, r), 5)

# tanh x = x + x z P(z) with z = x²
x = np.linspace(0.01, 0.625, 1000)
fit("TANH", x**2, of(lambda x: (mp.tanh(x) / x - 1) / x**2, x), of(lambda x: mp.tanh(x) / x**3, x), 4)

# Φ(-t) e^(t²/2) = P(v) / (t + k) with v = (t - k) / (t + k)
k = 3.5
t = np.concatenate([np.linspace(0, 1, 400), np.linspace(1, 15, 1200)])
mills = of(lambda t: mp.ncdf(-t) * mp.exp(t**2 / 2) * (t + k), t)
fit("MILLS", (t - k) / (t + k), mills, mills, 9)
