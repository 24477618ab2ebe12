"""The puppet: its body, face, clothes, materials, and the bricks that it is made of."""
