"""Find images, decode them, and scale their values."""
