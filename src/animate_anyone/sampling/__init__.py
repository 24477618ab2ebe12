"""From conditions to frames: the denoising loop, windows over long clips, decoding."""
