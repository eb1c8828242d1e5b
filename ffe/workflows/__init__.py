"""The calls behind the commands that take feature files: files in, a value and a file out."""
