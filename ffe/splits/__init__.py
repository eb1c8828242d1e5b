"""Which images belong together, which rows train and which test, and the folds. Pure functions over columns."""
