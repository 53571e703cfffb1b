"""The operators' routes to workspaces: what differs, a yes or a no to exactly that, and the labels of files."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from gateway.edges.documents import rfc3339
from gateway.edges.operators import Operator
from gateway.stores.codec import label_document
from gateway.workspaces import Workspaces

ServerName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,23}$")]
Text = Annotated[str, Field(max_length=4_096)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ApplyBody(_Body):
    digest: Text
    """Of the difference that was seen."""
    server: ServerName | None = None
    paths: Annotated[list[Text], Field(max_length=2_000)] = Field(default_factory=list)
    """Files and folders, absolute; empty: all that was seen."""


class DropBody(_Body):
    digest: Text = ""
    """Of the difference that was seen; empty: whatever is there."""
    server: ServerName | None = None


class ClearBody(_Body):
    path: Text


def workspace_routes(
    prefix: str,
    workspaces: Callable[[], Workspaces],
    viewer: Callable[[Request], Operator],
    decider: Callable[[Request], Operator],
) -> APIRouter:
    """Looking needs a viewer, everything else a decider."""
    routes = APIRouter(prefix=prefix)
    Viewer = Annotated[Operator, Depends(viewer)]
    Decider = Annotated[Operator, Depends(decider)]

    @routes.get("/workspaces")
    async def listed(_: Viewer) -> dict[str, Any]:
        return {"workspaces": await workspaces().listed()}

    @routes.get("/workspaces/{task}")
    async def shown(task: str, _: Viewer, server: Annotated[str | None, Query(max_length=24)] = None) -> dict[str, Any]:
        return await workspaces().shown(task, server)

    @routes.post("/workspaces/{task}/apply")
    async def apply(task: str, body: ApplyBody, operator: Decider) -> dict[str, Any]:
        return await workspaces().apply(task, body.server, body.paths, digest=body.digest, by=operator.by)

    @routes.post("/workspaces/{task}/drop")
    async def drop(task: str, body: DropBody, operator: Decider) -> dict[str, Any]:
        return await workspaces().drop(task, body.server, digest=body.digest, by=operator.by)

    @routes.get("/files")
    async def files(_: Viewer) -> dict[str, Any]:
        return {
            "files": [
                {
                    "path": one.path,
                    "server": one.server,
                    "task": one.task,
                    "sha256": one.digest,
                    "label": label_document(one.label),
                    "time": rfc3339(one.time),
                }
                for one in workspaces().register.labelled()
            ]
        }

    @routes.post("/files/clear")
    async def clear(body: ClearBody, operator: Decider) -> dict[str, Any]:
        return {"cleared": await workspaces().register.cleared(body.path, by=operator.by)}

    return routes
