"""The search over heads and their parameters."""
