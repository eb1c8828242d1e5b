"""The feature store: one HDF5 file that describes itself."""
