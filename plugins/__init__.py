"""Plugins: Optuna, NNI and the command line. The only room that imports them."""
