"""Mutants: perdure with one safeguard taken out, and the tests that must notice. `python -m tests.mutants`.

A test of safety is worth something when it fails once the line that it is about is broken. Each mutant here breaks one,
in a copy of the source tree, and runs the few tests that hold that line. One that survives is a hole in the tests.
"""
