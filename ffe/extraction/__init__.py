"""Images -> backbone -> feature file."""
