"""All mutants, by what they are about."""

from tests.mutants.listed.around import AROUND
from tests.mutants.listed.attempts import ATTEMPTS
from tests.mutants.listed.bands import BANDS
from tests.mutants.listed.cancels import CANCELS
from tests.mutants.listed.claims import CLAIMS
from tests.mutants.listed.connections import CONNECTIONS
from tests.mutants.listed.cuts import CUTS
from tests.mutants.listed.desk import DESK
from tests.mutants.listed.late import LATE
from tests.mutants.listed.leases import LEASES
from tests.mutants.listed.locks import LOCKS
from tests.mutants.listed.looks import LOOKS
from tests.mutants.listed.outcomes import OUTCOMES
from tests.mutants.listed.reports import REPORTS
from tests.mutants.listed.resources import RESOURCES
from tests.mutants.listed.rules import RULES
from tests.mutants.listed.stops import STOPS
from tests.mutants.listed.suspects import SUSPECTS
from tests.mutants.listed.unwinding import UNWINDING
from tests.mutants.listed.writes import WRITES

__all__ = ["MUTANTS"]

MUTANTS = (
    *WRITES,
    *LATE,
    *LOCKS,
    *LEASES,
    *REPORTS,
    *CLAIMS,
    *BANDS,
    *LOOKS,
    *CONNECTIONS,
    *CUTS,
    *OUTCOMES,
    *DESK,
    *ATTEMPTS,
    *UNWINDING,
    *CANCELS,
    *STOPS,
    *SUSPECTS,
    *RULES,
    *RESOURCES,
    *AROUND,
)
