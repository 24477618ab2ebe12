"""From bricks to pixels: the ray caster, light, and what a camera and a codec add."""
