"""A model behind HTTP, and the page for it."""
