"""The Fréchet distance of two sets of features (Dowson and Landau 1982; Heusel et al. 2017), from running sums.

Nothing of a set is kept but its number, mean and scatter, in float64: memory is that of one square matrix,
whatever the length of the set.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Gaussian:
    """Mean and covariance of features that come piece by piece.

    Pieces are merged as Chan, Golub and LeVeque (1979) do: sums of deviations, never of squares, so that features
    far from 0 lose no digits.

    Attributes:
        count: features so far.
        mean: ``(d,)`` float64.
    """

    def __init__(self, dimension: int) -> None:
        self.count = 0
        self.mean = np.zeros(dimension)
        self._scatter = np.zeros((dimension, dimension))

    def add(self, features: NDArray[np.floating]) -> None:
        """Take in features ``(n, d)``. Raises ``ValueError`` for another shape or values that are not finite."""
        if features.ndim != 2 or features.shape[1] != len(self.mean) or not len(features):
            raise ValueError(f"features of shape {features.shape}; give (n, {len(self.mean)}), n at least 1")
        if not np.isfinite(features).all():
            raise ValueError("features that are not finite")
        new = features.astype(np.float64)
        total = self.count + len(new)
        centre = new.mean(axis=0)
        shift, new = centre - self.mean, new - centre
        self._scatter += new.T @ new + np.outer(shift, shift) * (self.count * len(new) / total)
        self.mean = self.mean + shift * (len(new) / total)
        self.count = total

    @property
    def covariance(self) -> NDArray[np.float64]:
        """``(d, d)``, of a sample (divided by n - 1). Raises ``ValueError`` for fewer than two features."""
        if self.count < 2:
            raise ValueError(f"a covariance of {self.count} features; there must be two at least")
        return self._scatter / (self.count - 1)


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """``|m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½)``, 0 where alike.

    The trace of the root is the sum of the roots of the eigenvalues of ``C1^½ C2 C1^½``, which is symmetric: real
    for covariances of any rank, with no small number added.
    """
    one, other = first.covariance, second.covariance
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    middle = root @ other @ root
    shared = np.sqrt(np.linalg.eigvalsh((middle + middle.T) / 2).clip(0)).sum()
    shift = first.mean - second.mean
    return max(0.0, float(shift @ shift + np.trace(one) + np.trace(other) - 2 * shared))
