"""Which headers must mirror a call: those that a pinned definition asks for, and nobody's wish beside it."""

from support.cases import ALICE
from support.world import World, tool, unattended

from gateway.corridor import AgentCorridor
from policies.describe import Survey, described
from policies.jsonvalue import JSONObject


def wishing(header: str) -> Survey:
    body: JSONObject = tool("pay", "as pinned")
    properties = {**body["inputSchema"]["properties"], "to": {"type": "string", "x-mcp-header": header}}
    body = {**body, "inputSchema": {**body["inputSchema"], "properties": properties}}
    return Survey(server="bank", offered={"pay": described("pay", body)})


async def test_only_a_pinned_definition_has_its_arguments_mirrored() -> None:
    world = World()
    corridor = AgentCorridor(
        authority=None,  # type: ignore[arg-type]
        pipeline=None,  # type: ignore[arg-type]
        desk=None,  # type: ignore[arg-type]
        ledger=world.ledger,  # type: ignore[arg-type]
        memory=world.memory,
        definitions=world.definitions,
        clock=world.clock,
        hold_s=0.0,
    )
    await unattended(world, world.pinned())
    await unattended(world, world.definitions.observe(wishing("To")))
    assert corridor.mirrors(ALICE, "bank", "pay") == ()
    await unattended(world, world.definitions.accept("bank", "pay", "operator"))
    assert [one.field for one in corridor.mirrors(ALICE, "bank", "pay")] == [b"mcp-param-to"]
    await unattended(world, world.definitions.observe(wishing("Other")))
    assert corridor.mirrors(ALICE, "bank", "pay") == ()
