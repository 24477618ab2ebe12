"""Stands in for ComfyUI's package of this name where ComfyUI is not installed; see ``latest``."""
