"""Training: one loop (loop.py), and a small object per stage that says what is trained on what."""
