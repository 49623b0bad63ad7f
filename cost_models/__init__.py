"""Cost models: what an architecture costs on a device. The registry exists; the models come next."""
