"""Calibration: what a model computes on data of the user's, for passes that judge or repair by it."""
