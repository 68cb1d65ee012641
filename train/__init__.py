"""Image data, and the training of discrete networks."""
