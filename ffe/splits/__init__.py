"""Which rows train, which choose, which test. Pure functions over columns."""
