"""Settings of earlier versions that recipes and checkpoints may still have."""

from __future__ import annotations

from typing import Any

from animate_anyone.errors import InputError

# Settings of earlier versions, by section, and the values with which they had no effect.
_REMOVED: dict[str, dict[str, Any]] = {
    "objective": {"object_dropout": 0.0, "object_weight": 1.0, "decoder_only": False},
    "environment": {"blending_weights": "map", "finest_attention": False},
}


def without_removed(tree: dict[str, Any], where: str) -> dict[str, Any]:
    """A recipe of an earlier version as this one reads it. ``where``: the file's name, for errors.

    Raises:
        InputError: it has a setting that was removed, at a value that had an effect.
    """
    for section, removed in _REMOVED.items():
        settings = tree.get(section)
        if not isinstance(settings, dict):
            continue
        for name, neutral in removed.items():
            if settings.get(name, neutral) != neutral:
                raise InputError(
                    f"{where}: {section}.{name} is {settings[name]!r}; the setting was removed, "
                    f"and only what was trained with {neutral!r} goes on"
                )
        tree = tree | {section: {name: value for name, value in settings.items() if name not in removed}}
    return tree
