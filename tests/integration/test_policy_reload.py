"""The policy read again while the gateway runs: at once, and never a bad one."""

from pathlib import Path

import pytest

from audit.query import Filter, query
from gateway.bootstrap import running
from gateway.options import Options

DENY = 'package operator\n\ndeny contains "not today" if {\n\tinput.server == "bank"\n}\n'


@pytest.mark.promise("bad-bundle-leaves-last-good")
async def test_a_reloaded_policy_decides_at_once_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    bundle = tmp_path / "rules.rego"
    bundle.write_text(DENY)
    async with running(Options(state=tmp_path / "state", port=0, bundles=(bundle,))) as gateway:
        first = gateway.rules.bundle.revision
        bundle.write_text(DENY.replace("not today", "not tomorrow either"))
        await gateway.reload_policy()
        second = gateway.rules.bundle.revision
        bundle.write_text(DENY.replace("input.server", "input.sever"))
        await gateway.reload_policy()
        activated = query(gateway.memory.reader, Filter(kind="policy.activated"))

        assert first != second == gateway.rules.bundle.revision
        assert [event.payload["revision"] for event in activated if event.payload] == [first, second]
        stored = gateway.memory.reader.execute("SELECT value FROM meta WHERE key = 'policy'").fetchone()
        assert stored == (second,)
    assert not (tmp_path / "state" / "pratique.db-wal").exists(), "a clean stop leaves one file"
