"""Networks that compute on a CPU as they do on every other device."""

from __future__ import annotations

import pytest


def take_plain_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """As estimates of memory have it: with copies of the reference for each frame, not in a CPU's own forms."""
    monkeypatch.setattr("animate_anyone.models.fast_layers._at_inference", lambda *_: False)
    monkeypatch.setattr("animate_anyone.models.reference_attention._gives_sums", lambda _: False)
