"""Passes, what they decide by, and the verifier; they know nothing of files and command lines."""
