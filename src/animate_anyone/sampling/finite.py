"""NaN and infinity: found where they arise, and traced to damaged weights or to the number type."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from animate_anyone.errors import InputError


def check_finite(networks: Mapping[str, nn.Module], values: Tensor, what: str) -> None:
    """See that values are finite.

    Args:
        networks: those that made them, ``denoising_unet`` among them.
        what: what gave them, e.g. ``"step 3 of 20 gave"``.

    Raises:
        InputError: they are not; it says which weights are to blame, or which number type.
    """
    if torch.isfinite(values).all():
        return
    found = next(
        (
            f"{part}/{name}"
            for part, network in networks.items()
            for name, tensor in network.state_dict().items()
            if tensor.is_floating_point() and not tensor.is_meta and not torch.isfinite(tensor).all()
        ),
        None,
    )
    dtype = str(networks["denoising_unet"].dtype).removeprefix("torch.")
    if found is not None:
        # Cast to float16, large weights become infinite.
        or_else = " (or too large for float16: give --dtype float32)" if dtype == "float16" else ""
        raise InputError(f"{what} NaN or infinity: {found} is not finite; the weights are damaged{or_else}")
    if dtype != "float32":
        raise InputError(f"{what} NaN or infinity in {dtype}; give --dtype float32")
    raise InputError(f"{what} NaN or infinity, in float32 and with weights that are finite; this model cannot be used")
