"""What a user asks for, each a story that is read top to bottom."""
