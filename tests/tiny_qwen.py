"""Models that see and speak, of random weights, in the layout in which transformers saves Qwen-VL: see ``save``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
PATCH, MERGED = 4, 2


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, as byte-level BPE has it without merges, and the special ones."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    return fast


def save(kind: str, folder: Path) -> Path:
    """Write a model of ``qwen2_vl``, ``qwen2_5_vl`` or ``qwen3_vl`` into a folder, whole; returns the folder."""
    words = tokenizer()
    number = {token: int(words.convert_tokens_to_ids(token)) for token in SPECIAL}
    tokens = {
        "image_token_id": number["<|image_pad|>"],
        "vision_start_token_id": number["<|vision_start|>"],
        "vision_end_token_id": number["<|vision_end|>"],
        "video_token_id": number["<|endoftext|>"],
    }
    text: dict[str, Any] = {
        "vocab_size": len(words),
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "eos_token_id": number["<|im_end|>"],
        "bos_token_id": None,
        "pad_token_id": number["<|endoftext|>"],
    }
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    vision: dict[str, Any] = {"depth": 2, "num_heads": 2, "patch_size": PATCH, "spatial_merge_size": MERGED}
    torch.manual_seed(0)
    model: Any
    if kind == "qwen2_vl":
        seen = {**vision, "embed_dim": 16, "hidden_size": 32}
        config = Qwen2VLConfig(text_config={**text, "rope_parameters": rope}, vision_config=seen, **tokens)
        model = Qwen2VLForConditionalGeneration(config)
    elif kind == "qwen2_5_vl":
        seen = {
            **vision,
            "hidden_size": 16,
            "intermediate_size": 16,
            "out_hidden_size": 32,
            "window_size": 16,
            "fullatt_block_indexes": [1],
        }
        config = Qwen2_5_VLConfig(text_config={**text, "rope_parameters": rope}, vision_config=seen, **tokens)
        model = Qwen2_5_VLForConditionalGeneration(config)
    else:
        seen = {
            **vision,
            "hidden_size": 16,
            "intermediate_size": 16,
            "out_hidden_size": 32,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        }
        deep = {**text, "head_dim": 16, "rope_parameters": {**rope, "mrope_interleaved": True}}
        model = Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=deep, vision_config=seen, **tokens))
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    Qwen2VLImageProcessorPil(
        patch_size=PATCH, merge_size=MERGED, size={"shortest_edge": 16 * 16, "longest_edge": 64 * 64}
    ).save_pretrained(folder)
    return folder
