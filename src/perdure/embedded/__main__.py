"""Runs the keeper, by the path of this file: `python -I -S __main__.py ROOT …`, as `keeper.main` says.

ROOT is the folder that perdure is imported from: the keeper is of the same version as the process that starts it, and
needs nothing but that and the standard library. ROOT comes last, so that no other package in it hides a module of that.
"""

import sys

sys.path.append(sys.argv.pop(1))

from perdure.embedded.keeper import main

main()
