"""The version, importable from everywhere without importing the package's names."""

__version__ = "0.1.0"
