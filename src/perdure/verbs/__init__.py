"""The verbs of the clients, without their I/O: each is a generator of calls to run, and returns the answer.

So every verb is written once, and `client` runs it on async connections, `blocking` on sync ones.
"""

from __future__ import annotations

from perdure.verbs.basis import Step, Together, Verb
from perdure.verbs.checking import Checking
from perdure.verbs.ending import Ending
from perdure.verbs.proceeding import Proceeding
from perdure.verbs.sending import Sending
from perdure.verbs.starting import Starting

__all__ = ["Step", "Together", "Verb", "Verbs"]


class Verbs(Starting, Proceeding, Sending, Ending, Checking):
    """What can be asked of jobs."""
