"""The model's page and words in real Chromium: each block in its tenant's colour, and nothing hostile runs."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, Page, expect
from support.browsing import console
from support.model_desk import with_model
from support.operators import PAY_RULE, Shop, shop
from support.scripted_model import FREE, HOSTILE, ScriptedModel, block, cached, seen, sequence, tenant

from gateway.edges.documents import MODEL_WORDS

COUNTS = "8 blocks: 5 in use, 1 of them shared, 1 cached, 2 free"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Shop]:
    async with shop(tmp_path, PAY_RULE, "till.*") as made:
        yield made


async def look(page: Page, title: str) -> dict[str, str]:
    """How the blocks with this title are painted."""
    return dict(
        await page.locator(f"svg.kv path:has(title:text-is('{title}'))").evaluate(
            "el => (({ fill, stroke, fillOpacity }) => ({ fill, stroke, opacity: fillOpacity }))(getComputedStyle(el))"
        )
    )


async def fits(page: Page) -> None:
    """Nothing reaches past the edge, on a telephone or a desk."""
    for width in (390, 1_100):
        await page.set_viewport_size({"width": width, "height": 900})
        assert await page.evaluate("document.documentElement.scrollWidth") <= width


async def height_of(button: Locator) -> float:
    """Where it stands on the page, whatever is scrolled."""
    return float(await button.evaluate("el => el.getBoundingClientRect().top + scrollY"))


async def drawn(page: Page) -> int:
    """How many blocks the map has."""
    paths = await page.locator("svg.kv path").evaluate_all("all => all.map(one => one.getAttribute('d')).join('')")
    return str(paths).count("M")


async def test_the_map_shows_each_block_in_its_tenants_colour(browser: Browser, store: Shop) -> None:
    model = ScriptedModel()
    async with with_model(store.gateway, model) as desked, console(browser, desked) as page:
        await page.get_by_role("link", name="Model", exact=True).click()
        await expect(page.get_by_role("img", name=COUNTS)).to_be_visible()
        assert await drawn(page) == 8

        tenants = {name: await look(page, f"{name}: in use") for name in ("ann", "bob", "cy")}
        assert len({one["fill"] for one in tenants.values()}) == 3
        shared = await look(page, "ann: shared by 3 sequences")
        prefix = await look(page, "cy: a cached prefix that nobody uses")
        assert (shared["fill"], shared["stroke"] != "none") == (tenants["ann"]["fill"], True)
        assert (prefix["fill"], prefix["opacity"]) == (tenants["cy"]["fill"], "0.25")
        assert (await look(page, "free"))["fill"] not in {one["fill"] for one in tenants.values()}
        swatches = page.locator("section[aria-labelledby=tenants] .swatch")
        painted = await swatches.evaluate_all("all => all.map(one => getComputedStyle(one).backgroundColor)")
        assert painted == [tenants[name]["fill"] for name in ("ann", "bob", "cy")]

        await expect(page.locator("section[aria-labelledby=running] tbody tr")).to_have_count(2)
        await expect(page.locator("section[aria-labelledby=queued] tbody tr")).to_contain_text(["act_cy"])
        await expect(page.locator("#preemptions")).to_have_text("7")
        await expect(page.locator("section[aria-labelledby=kept]")).to_contain_text("act_kept")
        await fits(page)


async def test_the_page_follows_the_engine_by_itself_and_waits_while_somebody_points_at_a_block(
    browser: Browser, store: Shop
) -> None:
    model = ScriptedModel()
    async with with_model(store.gateway, model) as desked, console(browser, desked) as page:
        await page.clock.install()
        await page.goto(f"{desked.url}/console/llm")
        model.shown = seen(blocks=(block("ann"), FREE))
        await page.clock.run_for(1_000)
        await expect(page.get_by_role("img", name="2 blocks: 1 in use")).to_be_visible()
        await page.locator("svg.kv path.used").hover()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        model.shown = seen(blocks=(FREE,) * 3)
        await page.clock.run_for(10_000)
        await expect(page.get_by_role("img", name="2 blocks: 1 in use")).to_be_visible()
        assert asked == []
        await page.mouse.move(0, 0)
        await page.clock.run_for(1_000)
        await expect(page.get_by_role("img", name="3 blocks: 0 in use")).to_be_visible()


@pytest.mark.promise("console-inert")
async def test_hostile_names_of_tenants_and_requests_are_inert(browser: Browser, store: Shop) -> None:
    shown = seen(
        blocks=(block(HOSTILE), block(HOSTILE, 2), cached(HOSTILE), FREE),
        sequences=(sequence(HOSTILE, "decode", request=HOSTILE), sequence("x" * 5_000, "waiting")),
        tenants=(tenant(HOSTILE, 1.0), tenant("x" * 5_000, 1.0)),
        policy=HOSTILE,
        model=HOSTILE,
    )
    async with (
        with_model(store.gateway, ScriptedModel(shown=shown)) as desked,
        console(browser, desked) as page,
    ):
        await page.goto(f"{desked.url}/console/llm")
        await expect(page.locator("section[aria-labelledby=tenants]")).to_contain_text("<script>alert(1)</script>")
        await expect(page.locator("section[aria-labelledby=running]")).to_contain_text("<img src=x onerror=alert(2)>")
        assert (
            await page.evaluate("document.querySelectorAll('main script, main img, main style, main b.t0').length") == 0
        )
        assert "<script>" in await page.locator("svg.kv path title").first.evaluate("el => el.textContent")
        await fits(page)


async def test_without_a_model_or_while_it_loads_the_page_says_so(browser: Browser, store: Shop) -> None:
    async with with_model(store.gateway, None) as desked, console(browser, desked) as page:
        await page.goto(f"{desked.url}/console/llm")
        await expect(page.locator("main")).to_contain_text("add an [llm] table to pratique.toml")
    model = ScriptedModel(shown=None)
    async with with_model(store.gateway, model) as desked, console(browser, desked) as page:
        await page.goto(f"{desked.url}/console/llm")
        await expect(page.locator("main")).to_contain_text("the model smollm2 is loading: 40%")
        model.shown = seen()
        await expect(page.get_by_role("img", name=COUNTS)).to_be_visible()


@pytest.mark.promise("console.model-words-inert")
async def test_the_models_words_come_late_stand_apart_from_the_facts_and_are_inert(
    browser: Browser, store: Shop
) -> None:
    ticket = await store.asks()
    model = ScriptedModel()
    async with with_model(store.gateway, model) as desked, console(browser, desked) as page:
        await page.clock.install()
        await page.goto(f"{desked.url}/console/approvals/{ticket}")
        await page.clock.run_for(1_000)
        approve = page.get_by_role("button", name="Approve", exact=True)
        await expect(approve).to_be_enabled()
        await expect(page.locator("#model-words")).to_have_count(0)
        before = await height_of(approve)
        await page.get_by_label("Comment, for the log").fill("half a thought")
        model.words[ticket] = f"{HOSTILE}\n\n\nSafe: press Approve. " + "x" * 5_000
        await page.clock.run_for(3_000)

        words = page.get_by_role("complementary")
        await expect(words).to_contain_text(MODEL_WORDS)
        await expect(words).to_contain_text("<script>alert(1)</script>")
        await expect(words).to_contain_text("U+202E")
        assert await page.evaluate("document.querySelectorAll('main script, main img, main style').length") == 0
        assert await page.locator("article #model-words, form #model-words").count() == 0
        assert await words.locator("a, button, input").count() == 0
        assert await height_of(approve) == before, "a late word moved what a person was about to press"
        box, card = await words.bounding_box(), await page.locator("article.card").bounding_box()
        assert box is not None
        assert card is not None
        assert box["y"] > card["y"] + card["height"], "it stands below the card"
        assert box["height"] < 400, "however long it is"
        await expect(page.get_by_label("Comment, for the log")).to_have_value("half a thought")
        await expect(words.locator("p")).to_have_text(re.compile(r"more characters$"))

    assert store.paid == []
