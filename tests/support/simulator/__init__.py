"""A model of the store, and a simulator of workers and clients over it: deterministic, without a database.

- `rows`, `model`, `attempts`, `clients`, `leases`: the store's statements in plain Python, guarded as in SQL.
- `process`, `bodies`, `people`, `scheduler`: workers and clients as small steps, in an order that a seed draws; faults.
- `ledger`: what must hold after each step, and at rest. `runs`: a whole run.
- `twin`, `tables`: the model beside the real statements on a real PostgreSQL, compared row by row.
"""
