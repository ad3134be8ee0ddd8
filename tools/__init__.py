"""The command line: one module a command, with what prints and draws its answers."""
