"""Evaluation by real training: images, a trainer of many small networks at once, tables built from it."""
