"""`python -m perdure.cli`: the command line of this very Python, wherever the script `perdure` may be."""

from perdure.cli import main

main()
