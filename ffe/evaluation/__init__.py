"""How good predictions are, and how sure that is. Arrays in, values out: no files, no printing."""
