"""Prints the polynomial coefficients of csrc/elementary.h: python tools/polynomials.py

Needs mpmath. Each polynomial interpolates its function at Chebyshev nodes, which is within a small
factor of the best possible one (Trefethen, Approximation Theory and Approximation Practice, ch.
16); the degree is the lowest whose error stays well below half a unit in the last place of the
result it is used in.
"""

import mpmath as mp

mp.mp.dps = 60


def expm1_tail(r):
    """(e^r - 1 - r) / r^2."""
    return mp.mpf(1) / 2 + r / 6 if abs(r) < 1e-20 else (mp.expm1(r) - r) / r**2


def atanh_tail(z):
    """(atanh(s) - s) / s^3 as a function of z = s^2."""
    if z == 0:
        return mp.mpf(1) / 3
    s = mp.sqrt(z)
    return (mp.atanh(s) - s) / s**3


def normal_tail(t):
    """(1 + x) e^(x^2/2) Q(x), Q(x) = P(normal > x), as a function of t = (x - 3) / (x + 3)."""
    if t == 1:
        return 1 / mp.sqrt(2 * mp.pi)
    x = 3 * (1 + t) / (1 - t)
    return (1 + x) * mp.exp(x * x / 2) * mp.erfc(x / mp.sqrt(2)) / 2


def fit(function, low, high, degree):
    """Coefficients, lowest power first, and the largest error relative to the function."""
    low, high = mp.mpf(low), mp.mpf(high)
    nodes = [mp.cos(mp.pi * (2 * k + 1) / (2 * degree + 2)) for k in range(degree + 1)]
    nodes = [(low + high) / 2 + (high - low) / 2 * node for node in nodes]
    matrix = mp.matrix([[node**power for power in range(degree + 1)] for node in nodes])
    coefficients = list(mp.lu_solve(matrix, mp.matrix([function(node) for node in nodes])))
    grid = [low + (high - low) * k / 400 for k in range(401)]
    error = max(abs(mp.polyval(coefficients[::-1], x) / function(x) - 1) for x in grid)
    return coefficients, error


POLYNOMIALS = {
    "EXPM1_TAIL": (expm1_tail, -0.34658, 0.34658, 5, 10),
    "ATANH_TAIL": (atanh_tail, 0, mp.mpf(1) / 9, 5, 13),
    "NORMAL_TAIL": (normal_tail, -1, 1, 11, 25),
}

if __name__ == "__main__":
    for dtype, digits in (("float", 9), ("double", 17)):
        for name, (function, low, high, *degrees) in POLYNOMIALS.items():
            coefficients, error = fit(function, low, high, degrees[dtype == "double"])
            numbers = ", ".join(mp.nstr(c, digits, min_fixed=0, max_fixed=0) for c in coefficients)
            print(f"/* relative error {mp.nstr(error, 2)} */")
            print(f"static const {dtype} {name}[] = {{{numbers}}};")
