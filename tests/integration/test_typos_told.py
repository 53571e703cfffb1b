"""Typos of an operator against servers that are there: a grant is refused, a pack is told of."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.scene import PACK, grant, scene, till

from gateway.bootstrap import Running
from gateway.errors import OperatorError

WRONG = PACK.replace("[flow]", '[flow]\nnote = ["mial.send"]') + '\n[tool.nosuch]\neffect = "read"\n'


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Running]:
    right, wrong = till(tmp_path / "till"), till(tmp_path / "wrong", name="wrong", pack=WRONG)
    async with scene(tmp_path / "state", right, wrong) as running:
        yield running


async def test_a_grant_with_a_typo_is_refused_and_nothing_is_granted(gateway: Running) -> None:
    for rule, said in (
        ("till.pya", "till has no tool 'pya'; did you mean 'pay'?"),
        ('till.pay(too = "x")', "till.pay has no argument 'too'; did you mean 'to'?"),
        ("tlil.pay", "no server named tlil"),
    ):
        with pytest.raises(OperatorError, match=said.replace("?", r"\?")):
            await grant(gateway, "till.read", rule)
    with pytest.raises(OperatorError, match="no currency is called XXX"):
        await grant(gateway, "till.pay", spend={"XXX": 800})

    assert gateway.control.tasks() == []


async def test_a_pack_with_a_typo_is_told_of(gateway: Running) -> None:
    warnings = {one["name"]: one["warning"] for one in gateway.servers.listed()}

    assert warnings == {"till": "", "wrong": "its pack names what is not there (`server show` tells what)"}
    assert gateway.servers.shown("till")["pack_problems"] == []
    assert gateway.servers.shown("wrong")["pack_problems"][0].startswith("tool.nosuch: the server has no such tool")
