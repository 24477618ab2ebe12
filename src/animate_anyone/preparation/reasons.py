"""Why clips are dropped, by name, as the manifest has it."""

from __future__ import annotations

TOO_SHORT = "too short"
TOO_SMALL = "too small"
NO_PERSON = "no person"
SEVERAL_PEOPLE = "several people"
LOW_CONFIDENCE = "low confidence"
LITTLE_MOTION = "too little motion"
STATIC_OVERLAY = "static overlay"
DUPLICATE = "duplicate file"
