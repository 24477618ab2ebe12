"""The place: backdrops, furniture, props, surroundings, and the compositing of all layers."""
