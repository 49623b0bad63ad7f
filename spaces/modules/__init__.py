"""Torch networks of the spaces. The only part of the room that imports torch."""
