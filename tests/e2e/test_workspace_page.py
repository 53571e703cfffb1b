"""The page of changes in real Chromium: what is hostile is inert, and a click does just what was shown, or nothing."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from support.browsing import console
from support.desks import Desk, desk

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\u202e\x1b[31m p\u0430yp\u0430l\n"


@pytest.fixture
async def papers(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as made:
        yield made


@pytest.mark.promise("rw-needs-a-yes")
async def test_a_person_reads_the_changes_and_applies_one_of_them(browser: Browser, papers: Desk) -> None:
    await papers.does("write", "a.txt", text="one\n2\n")
    await papers.does("write", "notes/b.txt", text="b\n")
    await papers.does("link", "out", text="/etc/passwd")
    async with console(browser, papers.gateway, width=390) as page:
        await page.reload()
        await page.get_by_role("link", name=papers.task).first.click()
        await expect(page.locator(".diff .plus").first).to_have_text("+2")
        await expect(page.get_by_text("a link that leads out of the workspace: /etc/passwd")).to_be_visible()
        await page.get_by_label("notes/b.txt").uncheck()
        await page.get_by_label("added folder").uncheck()
        apply = page.get_by_role("button", name="Apply what is chosen")
        await expect(apply).to_be_enabled()
        await apply.press("Enter")
        assert (papers.papers / "a.txt").read_text() == "one\ntwo\n"
        async with page.expect_navigation():
            await apply.click()
        await expect(page.locator("article.change")).to_have_count(2)

    assert ((papers.papers / "a.txt").read_text(), os.listdir(papers.papers)) == ("one\n2\n", ["a.txt"])


@pytest.mark.promise("rw-needs-a-yes")
async def test_a_click_on_what_has_changed_since_applies_nothing(browser: Browser, papers: Desk) -> None:
    await papers.does("write", "a.txt", text="harmless")
    async with console(browser, papers.gateway, width=390, expected="409 (Conflict)") as page:
        await page.goto(f"{papers.gateway.url}/console/workspaces/{papers.task}")
        apply = page.get_by_role("button", name="Apply what is chosen")
        await expect(apply).to_be_enabled()
        await papers.does("write", "a.txt", text="harmful")
        await apply.click()
        await expect(page.locator("#said")).to_contain_text("not what was shown any more")
        assert (papers.papers / "a.txt").read_text() == "one\ntwo\n"
        await page.reload()
        drop = page.get_by_role("button", name="Drop all")
        await expect(drop).to_be_enabled()
        async with page.expect_navigation():
            await drop.click()
        await expect(page.get_by_text("Nothing differs.")).to_be_visible()
    assert (papers.papers / "a.txt").read_text() == "one\ntwo\n"


@pytest.mark.promise("console-inert")
async def test_a_hostile_difference_is_inert_and_visible(browser: Browser, papers: Desk) -> None:
    await papers.does("write", "a.txt", text=HOSTILE * 20 + "x" * 20_000)
    await papers.does("write", "evil.txt", text=HOSTILE)
    async with console(browser, papers.gateway, width=390) as page:
        await page.goto(f"{papers.gateway.url}/console/workspaces/{papers.task}")
        await expect(page.locator(".diff .plus").first).to_contain_text("<script>alert(1)</script>")
        await expect(page.locator(".diff .plus").first).to_contain_text("U+202EU+001B")
        await expect(page.locator("b.odd").first).to_have_text("p\u0430yp\u0430l")
        assert await page.evaluate("document.querySelectorAll('main script, main img, main style').length") == 0
        assert await page.evaluate("document.documentElement.scrollWidth") <= 390
