"""Other people's weights: where they are published, how they come here, and how they become a model folder."""
