"""Engines run a frozen backbone over batches of images."""
