"""Where on a photo a model saw what it says."""
