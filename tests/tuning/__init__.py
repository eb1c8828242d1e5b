"""A package, so that its modules may have names that other folders of tests have too."""
