"""The model's page over the real engine: three agents generate at once, and each has its blocks and its colour."""

import asyncio
from pathlib import Path

import httpx
from playwright.async_api import Browser, expect
from support.browsing import console
from support.llm import modelled

ASKED = {"model": "smollm2", "prompt": "Once upon a time there was", "max_tokens": 100, "temperature": 0}
PAINTED = "all => [...new Set(all.map(one => getComputedStyle(one).fill))].length"


async def test_three_agents_blocks_are_seen_while_they_generate_and_their_usage_is_told(
    browser: Browser, tmp_path: Path
) -> None:
    async with (
        modelled(tmp_path, isolation="process") as at,
        console(browser, at.gateway) as page,
        httpx.AsyncClient(base_url=at.v1, timeout=120, trust_env=False) as http,
    ):
        granted = {name: await at.grant(agent=name) for name in ("ann", "bob", "cy")}
        asking = [
            asyncio.create_task(http.post("/completions", json=ASKED, headers={"authorization": f"Bearer {one.token}"}))
            for one in granted.values()
        ]
        await page.goto(f"{at.gateway.url}/console/llm")
        await expect(page.locator("section[aria-labelledby=running] tbody tr")).to_have_count(3, timeout=30_000)
        assert await page.locator("svg.kv path.used").evaluate_all(PAINTED) == 3
        answers = [one.json() for one in await asyncio.gather(*asking)]
        await expect(page.locator("section[aria-labelledby=running]")).to_contain_text("Nothing.")
        await expect(page.locator("section[aria-labelledby=tenants] tbody tr")).to_have_count(3)

        mounted = at.gateway.mounted
        assert mounted is not None
        await mounted.model.stop()  # what it decided last is written
        found = await (await page.context.request.get(f"{at.gateway.url}/api/v1/llm/usage")).json()

    assert {row["agent"] for row in found["usage"]} == set(granted)
    assert {row["task"] for row in found["usage"]} == {one.task.id for one in granted.values()}
    assert found["total"]["requests"] == 3
    assert found["total"]["decode_tokens"] == sum(one["usage"]["completion_tokens"] for one in answers)
