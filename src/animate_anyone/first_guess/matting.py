"""The share of the person in every pixel of a picture: a closed-form matte near the silhouette's edge.

A. Levin, D. Lischinski, Y. Weiss: A Closed-Form Solution to Natural Image Matting (2008). (`pymatting` has it too, and
compiles for one to two minutes when it is first imported; a band of a few pixels needs a small sparse solve.) The
person's own colours, where they are mixed with the background: M. Forte, Approximate Fast Foreground Colour Estimation
(2021).
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter
from scipy.sparse.linalg import spsolve

from animate_anyone.structures import Picture, Plane

_PURE = 4  # power of a pixel's share that is its weight in the mean of what is around
_SMOOTH = 1e-5  # added to the colours' covariance in a window, of the squared full range


def estimate_matte(picture: Picture, silhouette: NDArray[np.bool_], outside: int, inside: int) -> Plane:
    """Share of the person in each pixel, ``(height, width)`` in [0, 1].

    Args:
        picture: ``(height, width, 3)`` uint8.
        silhouette: ``(height, width)`` bool, the person.
        outside, inside: pixels on either side of the silhouette's edge in which the share is estimated.
    """
    maybe = binary_dilation(silhouette, iterations=outside)
    sure = binary_erosion(silhouette, iterations=inside, border_value=1)
    unknown = maybe & ~sure
    alpha = sure.astype(np.float32)
    if min(silhouette.shape) < 3 or not unknown.any():
        return silhouette.astype(np.float32)
    laplacian = _laplacian(picture.astype(np.float64) / 255, unknown)
    free, fixed = np.flatnonzero(unknown), np.flatnonzero(~unknown)
    system = laplacian[free]
    found = spsolve(system[:, free].tocsc(), -(system[:, fixed] @ alpha.ravel()[fixed]))
    alpha.ravel()[free] = np.clip(np.nan_to_num(found, nan=0.5), 0, 1)
    return alpha


def own_colours(picture: Picture, alpha: Plane) -> Picture:
    """The person's colours ``(height, width, 3)`` uint8, where a pixel is mixed with what lies behind."""
    image = picture.astype(np.float32)
    front, back = image, image
    for sigma in (max(picture.shape[:2]) / 16, 2.0):
        # Pixels that are hardly mixed count most.
        front, around = _blend(front, alpha**_PURE, sigma), _blend(back, (1 - alpha) ** _PURE, sigma)
        share = alpha[..., None]
        front = np.clip(front + share * (image - share * front - (1 - share) * around), 0, 255)
        back = around
    colours: Picture = front.round().astype(np.uint8)
    return np.where(alpha[..., None] >= 1, picture, colours)


def _blend(image: Plane, share: Plane, sigma: float) -> Plane:
    """Mean of ``(height, width, 3)`` around each pixel, weighted by ``share``; the image where nothing has weight."""
    weight = gaussian_filter(share, sigma)[..., None]
    total = gaussian_filter(image * share[..., None], (sigma, sigma, 0))
    return np.where(weight > 1e-3, total / np.maximum(weight, 1e-3), image)


def _laplacian(image: NDArray[np.float64], unknown: NDArray[np.bool_]) -> sparse.csr_matrix:
    """The matting Laplacian of the 3x3 windows that hold an unknown pixel, ``(pixels, pixels)`` (eq. 12)."""
    height, width = unknown.shape
    used = sliding_window_view(unknown, (3, 3)).any((2, 3))
    numbers = sliding_window_view(np.arange(height * width).reshape(height, width), (3, 3))[used].reshape(-1, 9)
    colours = image.reshape(-1, 3)[numbers]  # (windows, 9, 3)
    offset = colours - colours.mean(1, keepdims=True)
    covariance = np.einsum("nki,nkj->nij", offset, offset) / 9 + _SMOOTH / 9 * np.eye(3)
    affinity = (1 + np.einsum("nki,nij,nlj->nkl", offset, np.linalg.inv(covariance), offset)) / 9
    values = np.eye(9) - affinity
    rows, columns = np.repeat(numbers, 9, axis=1), np.tile(numbers, (1, 9))
    size = (height * width, height * width)
    return sparse.coo_matrix((values.ravel(), (rows.ravel(), columns.ravel())), size).tocsr()
