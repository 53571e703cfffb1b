"""The operators' routes to the model: how it is, what it keeps, who used how much of it."""

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from gateway.edges.documents import instant, timed
from gateway.edges.operators import Operator
from gateway.errors import OperatorError
from gateway.llm.usage import Tally, Wanted, tallied
from gateway.ports import ModelDesk

NO_MODEL = "no model is configured: add an [llm] table to pratique.toml, and start the gateway again"

Text = Annotated[str | None, Query(max_length=256)]


def configured(model: ModelDesk | None) -> ModelDesk:
    """The model.

    Raises:
        OperatorError: there is none (404).
    """
    if model is None:
        raise OperatorError(NO_MODEL, status=404)
    return model


def model_routes(
    prefix: str,
    model: Callable[[], ModelDesk | None],
    reader: Callable[[], sqlite3.Connection],
    viewer: Callable[[Request], Operator],
    decider: Callable[[Request], Operator],
) -> APIRouter:
    """Looking needs a viewer, everything else a decider. What was used stands in the log, model or no model."""
    routes = APIRouter(prefix=f"{prefix}/llm")
    Viewer = Annotated[Operator, Depends(viewer)]
    Decider = Annotated[Operator, Depends(decider)]

    @routes.get("")
    async def seen(_: Viewer) -> dict[str, Any]:
        return await configured(model()).seen()

    @routes.get("/models")
    async def models(_: Viewer) -> dict[str, Any]:
        return {"models": configured(model()).models()}

    @routes.get("/generations")
    async def generations(_: Viewer) -> dict[str, Any]:
        return {"generations": [timed(one, "created") for one in await configured(model()).generations()]}

    @routes.post("/generations/{generation}/suspend")
    async def suspend(generation: str, operator: Decider) -> dict[str, Any]:
        await configured(model()).suspend(generation, operator.by)
        return {"id": generation}

    @routes.post("/generations/{generation}/forget")
    async def forget(generation: str, operator: Decider) -> dict[str, Any]:
        await configured(model()).forget(generation, operator.by)
        return {"id": generation}

    @routes.get("/usage")
    async def usage(
        _: Viewer,
        task: Text = None,
        agent: Text = None,
        request: Text = None,
        since: Text = None,
        until: Text = None,
    ) -> dict[str, Any]:
        wanted = Wanted(task=task, agent=agent, request=request, since=instant(since), until=instant(until))
        tally = Tally(wanted=wanted)
        for _page in tallied(reader(), tally):
            await asyncio.sleep(0)  # the log may be long: calls go on between its pages
        return tally.document()

    return routes
