"""Runs the keeper, by the path of this file: `python -I …/perdure/embedded/__main__.py ROOT …`, as `keeper.main` says.

ROOT is the folder that perdure is imported from, which an isolated Python may not know by itself. It comes last, so
that nothing in it hides a module of the standard library.
"""

import sys

sys.path.append(sys.argv.pop(1))

from perdure.embedded.keeper import main

main()
