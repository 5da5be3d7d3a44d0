"""`perdure demo`: real work that is stopped, killed and frozen while it runs, and a count of what that has cost.

A job indexes the Python standard library's sources (`tasks`, `index`) into tables of its own (`tables`), in worker
processes (`process`, `worker`) that are struck at random points (`faults`, `run`). Then the tables are compared with an
index made in one go (`compare`). What happens is reported as `events`; `perdure.cli.demo` shows them.
"""
