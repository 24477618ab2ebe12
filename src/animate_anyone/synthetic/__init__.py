"""The puppet studio: synthetic characters, their movement, and the truth about them."""
