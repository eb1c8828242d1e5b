"""Pretrained networks: which there are, where their weights lie, and how to build them."""
