"""Short races on a real PostgreSQL, in every order of their steps.

- `explorer`: who makes the next step, over all orders; a step that waits for a lock is left waiting, and others go on.
- `stage`: the connections and the scene, set anew for each order.
- `actors`: what each does, as steps between which others may do theirs.
- `judge`: what must hold once all have done; `moves`: of each write, and of all together.
"""
