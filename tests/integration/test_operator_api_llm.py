"""The operators' routes to the model, with a scripted one: who may look, who may act, and what is said without one."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.model_desk import Desked, with_model
from support.operators import Shop, shop
from support.scripted_model import GENERATION, MODEL, ScriptedModel, seen

from gateway.edges.operators import COOKIE, KEY_HEADER

API = "/api/v1"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Shop]:
    async with shop(tmp_path) as made:
        yield made


def browser(store: Shop, desked: Desked, *, key: bool = True) -> httpx.AsyncClient:
    """HTTP as a page of that console sends it."""
    cookie, secret = store.session()
    headers = {"origin": desked.url, "sec-fetch-site": "same-origin"} | ({KEY_HEADER: secret} if key else {})
    return httpx.AsyncClient(base_url=desked.url, cookies={COOKIE: cookie}, headers=headers, trust_env=False)


async def test_an_operator_sees_the_model_and_acts_on_its_generations(store: Shop) -> None:
    model = ScriptedModel()
    async with with_model(store.gateway, model) as desked, browser(store, desked) as operator:
        assert (await operator.get(f"{API}/llm")).json() == seen()
        assert (await operator.get(f"{API}/llm/models")).json() == {"models": [MODEL]}
        kept = (await operator.get(f"{API}/llm/generations")).json()["generations"]
        assert kept == [GENERATION | {"created": "2027-01-15T08:00:00.250Z"}]
        for what in ("suspend", "forget"):
            answer = await operator.post(f"{API}/llm/generations/act_kept/{what}")
            assert (answer.status_code, answer.json()) == (200, {"id": "act_kept"})
            unheard = await operator.post(f"{API}/llm/generations/act_0/{what}")
            assert (unheard.status_code, unheard.json()["code"]) == (404, "not_found")

    assert [(what, generation) for what, generation, _ in model.done] == [
        ("suspend", "act_kept"),
        ("forget", "act_kept"),
    ]
    assert all(by.startswith("console:") for _, _, by in model.done)


@pytest.mark.promise("cookie-only-looks")
async def test_a_cookie_alone_looks_at_the_model_and_changes_nothing(store: Shop) -> None:
    model = ScriptedModel()
    async with with_model(store.gateway, model) as desked, browser(store, desked, key=False) as thief:
        assert (await thief.get(f"{API}/llm")).status_code == 200
        for what in ("suspend", "forget"):
            assert (await thief.post(f"{API}/llm/generations/act_kept/{what}")).status_code == 403
        thief.cookies.clear()
        for path in ("", "/models", "/generations", "/usage"):
            assert (await thief.get(f"{API}/llm{path}")).status_code == 401
        assert (await thief.get("/console/llm")).status_code == 401

    assert model.done == []


async def test_without_a_model_each_route_says_what_to_do_and_usage_still_answers(store: Shop) -> None:
    async with with_model(store.gateway, None) as desked, browser(store, desked) as operator:
        for path in ("", "/models", "/generations"):
            answer = await operator.get(f"{API}/llm{path}")
            assert (answer.status_code, "add an [llm] table" in answer.json()["detail"]) == (404, True)
        assert (await operator.post(f"{API}/llm/generations/act_kept/forget")).status_code == 404
        assert (await operator.get(f"{API}/llm/usage")).json()["usage"] == []
        assert (await operator.get(f"{API}/llm/usage?since=soon")).status_code == 422


async def test_a_model_that_still_loads_says_how_far(store: Shop) -> None:
    async with with_model(store.gateway, ScriptedModel(shown=None)) as desked, browser(store, desked) as operator:
        answer = await operator.get(f"{API}/llm")
        assert (answer.status_code, answer.json()["detail"]) == (503, "the model smollm2 is loading: 40%")
        assert (await operator.get(f"{API}/llm/models")).json()["models"][0]["status"] == "loading 40%"


async def test_an_approval_carries_the_models_words_beside_its_card_and_no_digest_covers_them(store: Shop) -> None:
    ticket = await store.asks()
    model = ScriptedModel()
    async with with_model(store.gateway, model) as desked, browser(store, desked) as operator:
        before: dict[str, Any] = (await operator.get(f"{API}/approvals/{ticket}")).json()
        model.words[ticket] = "It pays the rent."
        after = (await operator.get(f"{API}/approvals/{ticket}")).json()
        listed = (await operator.get(f"{API}/approvals")).json()["approvals"]

    assert before["model_summary"] is None
    assert after == before | {"model_summary": "It pays the rent."}
    assert listed == [after]
