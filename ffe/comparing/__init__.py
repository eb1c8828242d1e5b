"""Several roads to a classifier, side by side."""
