"""Converters: from the files people have to a table, one file a format."""
