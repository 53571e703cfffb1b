"""`docs/tour.md` against the code: what a step names is defined in a file that the step names."""

import ast
import re
from functools import cache

import pytest
from support.pages import REPOSITORY

TOUR = (REPOSITORY / "docs" / "tour.md").read_text("utf-8")
STEPS = [
    step for step in re.split(r"\n\n|\n(?=\d+\. |- )", re.sub(r"```.*?```", "", TOUR, flags=re.DOTALL)) if "`" in step
]
"""Paragraphs and list items."""
PATH = re.compile(r"`((?:gateway|policies|sandbox|llmcore|audit)/[\w/]+\.py)`")
NAME = re.compile(r"`((?:[A-Z]\w*\.)?[a-z_]\w*)\(\)`|`([A-Z][A-Za-z]+)`")


@cache
def defined(path: str) -> frozenset[str]:
    """Functions, classes, and `Class.method` of a file."""
    found: set[str] = set()
    for node in ast.parse((REPOSITORY / path).read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            inner = (one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
            found.update(f"{node.name}.{one.name}" for one in inner)
    return frozenset(found)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: str(step)[:40])
def test_names_of_a_step_are_defined_in_its_files(step: str) -> None:
    known = frozenset[str]().union(*(defined(path) for path in PATH.findall(step)))
    named = {function or kind for function, kind in NAME.findall(step)}

    assert named - known == set()


def test_the_tour_names_the_corridor() -> None:
    named = {function for function, _ in NAME.findall(TOUR)}

    assert named >= {"Pipeline.mediate", "Pipeline.decide", "Pipeline.perform", "Table.execute"}
