"""The ground floor: files, memory, text and digests. Nothing here knows of machine learning."""
