"""The function behind each command: files in, a value and a file out."""
