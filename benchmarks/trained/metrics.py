"""What a training is told about, epoch by epoch. Imports no torch: tables of trainings are read without it."""

__all__ = ["METRICS"]

METRICS = ("train", "train_loss", "valid", "valid_loss", "test", "test_loss")
"""What an epoch of training yields on the three parts: accuracies, and mean cross entropies. Those of the
training part are running averages within the epoch."""
