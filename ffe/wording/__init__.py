"""Values -> sentences and tables for a terminal and a model card."""
