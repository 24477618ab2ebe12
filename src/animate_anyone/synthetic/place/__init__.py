"""Where a puppet stands: backdrops, furniture, props, surroundings, and the stage that puts them together."""
