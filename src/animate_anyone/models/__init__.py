"""The networks of the method. File names here are a file format: ``model_index.json`` holds them."""
