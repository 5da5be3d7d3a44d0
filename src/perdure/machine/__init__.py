"""State machines: tasks whose checkpoint is a state, with a handler for each; and their graph.

The worker knows nothing of them: to it a machine is a task like any other.
"""

from perdure.machine.base import StateMachine
from perdure.machine.drawing import Edge, EdgeKind, Graph, graph
from perdure.machine.state import MachineState, on

__all__ = ["Edge", "EdgeKind", "Graph", "MachineState", "StateMachine", "graph", "on"]
