"""The person as pixels: masks and their checks, what stands in front, how the background moves."""
