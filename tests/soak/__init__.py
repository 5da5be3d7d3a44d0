"""The soak: workers and clients under random faults for hours. `make soak`, or `python -m tests.soak --hours 24`.

In rounds of half a minute: load while faults are done, rest, then all invariants of what happened are checked, and the
log is emptied, so that the checker's memory stays bounded. One of the workers is spared being ended, and its memory,
file descriptors and connections are sampled, as are the sizes of tables; at the end stands a verdict: flat, or not.
"""
