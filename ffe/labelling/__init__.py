"""Which photos to label next, and which labels to correct."""
