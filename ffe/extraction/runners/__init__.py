"""Who pushes the images through the backbone."""
