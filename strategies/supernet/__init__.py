"""Strategies that train a supernet, whose weights all architectures share. Only here may the room import torch."""
