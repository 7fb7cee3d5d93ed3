"""Measurements of speed, each as a ratio to a reference that runs beside it."""
