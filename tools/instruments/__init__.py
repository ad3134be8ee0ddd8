"""What the command line can watch a compile with: dumps, diffs, times, counters, reproducers."""
