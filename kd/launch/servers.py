"""Check that the nodes of a machine reach the servers that stages send requests to."""

from __future__ import annotations

from collections.abc import Iterable

from kd.base.errors import UserError
from kd.base.urls import is_local
from kd.pipeline.model import Stage
from kd.recipe.schema import MachineConfig


def check_servers(stages: Iterable[Stage], machine: MachineConfig) -> None:
    """Raise UserError for a stage whose nodes cannot reach the server that its jobs send requests to.

    A server on the node itself is always reached.
    """
    for stage in stages:
        url, name = stage.kind.asks(stage), stage.kind.resources
        if url is not None and not is_local(url) and not machine.reaches_internet(name):
            raise UserError(
                f"{stage.name} needs {url}, but jobs of the class {name} on {machine.name} do not reach the network.",
                f"Set machine.resources.{name}.online=true if they reach it, or start the server on the node and set "
                "the teacher's url to http://localhost:PORT/v1.",
            )
