"""The console in real Chromium, for tests: whatever the browser complains of fails them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

from gateway.bootstrap import Running

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield chromium
        await chromium.close()


@asynccontextmanager
async def console(
    browser: Browser, gateway: Running, *, width: int = 1100, expected: str = "nothing"
) -> AsyncIterator[Page]:
    """A page of the console, opened by a fresh link; anything the browser complains of fails the test."""
    context = await browser.new_context(viewport={"width": width, "height": 900})
    page = await context.new_page()
    complaints: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and expected not in message.text:
            complaints.append(message.text)

    page.on("console", heard)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"a dialog opened: {dialog.message}"))
    await page.goto(gateway.console_link())
    await page.wait_for_url(f"{gateway.url}/console")
    yield page
    await context.close()
    assert complaints == []
