"""Objects without spatial blending, the ablation of Animate Anyone 2: merged with the noise latents at the input."""

from __future__ import annotations

from torch import Tensor, nn

from animate_anyone.models.object_guider import ObjectFeatures


class ObjectInput(nn.Conv2d):
    """The object features of the latents' own grid, projected (1x1) and added to what the first convolution gives.

    They enter where pose features do. Weights and bias are zero at the start: no object changes anything then.

    Args:
        channels: of the features, and of the UNet's first level.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 1)
        nn.init.zeros_(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def forward(self, objects: ObjectFeatures, pose_features: Tensor | None) -> Tensor:  # type: ignore[override]
        """Pose features ``(batch, channels, frames, h, w)``, ``None`` for zeros, with those of objects added.

        Frames without an object stay as they are, bit for bit.
        """
        features = objects.levels[0].transpose(1, 2)  # (batch, frames, channels, h, w)
        projected = super().forward(features.flatten(0, 1).to(self.weight.dtype)).view(features.shape)
        projected = projected * objects.present[:, :, None, None, None].to(projected.dtype)
        added = projected.transpose(1, 2)
        return added if pose_features is None else pose_features + added.to(pose_features.dtype)
