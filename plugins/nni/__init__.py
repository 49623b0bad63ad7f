"""nasplug on NNI 3.0: a tuner, trial command, registration and NAS strategies."""
