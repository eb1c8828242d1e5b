"""Models and feature files for other programs."""
