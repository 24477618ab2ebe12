"""From what is seen to what the model is told: pure functions."""
