"""Ours, not the papers': small models change a first guess at a frame, in place of making it from noise alone."""
