"""Pruning while a module trains: masks of a plan that hold, and cuts that come little by little."""
