"""What pruning needs while a module trains: masks that hold, and gradients to judge weights by."""
