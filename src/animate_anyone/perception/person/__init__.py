"""The person as pixels: masks and their checks, occluders, background motion."""
