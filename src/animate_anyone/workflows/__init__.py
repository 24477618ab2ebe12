"""What a user asks for: ``animate``, ``replace`` and ``pose``, each read top to bottom, and what they share."""
