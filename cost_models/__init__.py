"""Cost models: what an architecture costs on a device; by registered name, or from their modules."""
