"""Labelled images as a table, and who trains, who chooses and who tests."""
