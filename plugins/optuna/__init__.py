"""nasplug strategies as Optuna samplers."""
