"""``python -m prunec``: the command line."""

from prunec.tools.prunec import main

main()
