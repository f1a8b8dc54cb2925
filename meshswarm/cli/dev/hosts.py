"""What a node leaves running on its host, and the end of it."""

from meshswarm.agent.runtimes import process
from meshswarm.cli.dev.layout import NodeFiles


def end_tasks(node: NodeFiles) -> int:
    """Kill all that the node's agent started; gives how many processes that were."""
    return process.kill_all(node.state / "agent")
