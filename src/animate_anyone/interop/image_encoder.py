"""CLIP's vision tower with its projection, in the layout of ``sd-image-variations``."""

from __future__ import annotations

from typing import Any

from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from animate_anyone.interop.key_map import KeyMap, MappedNetwork, fit
from animate_anyone.interop.weight_file import WeightFile
from animate_anyone.models.shapes import shapes_only

FOLDER = KeyMap(
    left=(
        (r"^vision_model\.embeddings\.position_ids$", "counts from 0 up"),
        (r"^(text_model|text_projection|logit_scale)", "CLIP's text tower"),
    )
)


def read_image_encoder(file: WeightFile, config: dict[str, Any]) -> MappedNetwork:
    """The image encoder from an ``image_encoder/`` folder."""
    with shapes_only():
        encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**config))
    return fit(encoder, [(file, FOLDER)])
