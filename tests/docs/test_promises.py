"""`docs/promises.md` and the marks in the tests: each id on either side has its other half."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from support.pages import REPOSITORY, sections

PAGE = REPOSITORY / "docs" / "promises.md"


def marked(path: Path) -> Iterator[tuple[str, str]]:
    """(promise, test) for each `@pytest.mark.promise("id")` of a file, of its classes, or of the whole file."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "pytestmark" for t in node.targets):
            yield from ((promise, path.name) for promise in promises_in(node.value))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from ((promise, node.name) for one in node.decorator_list for promise in promises_in(one))


def promises_in(expression: ast.expr) -> Iterator[str]:
    """Every id that is promised somewhere in an expression."""
    for node in ast.walk(expression):
        match node:
            case ast.Call(ast.Attribute(_, "promise"), arguments):
                assert arguments, "a promise without an id"
                for argument in arguments:
                    assert isinstance(argument, ast.Constant), "a promise's id is written out"
                    assert isinstance(argument.value, str)
                    yield argument.value
            case _:
                pass


@cache
def held() -> dict[str, set[str]]:
    """Promise to `file: test` of every test that holds it."""
    found: dict[str, set[str]] = {}
    for path in sorted((REPOSITORY / "tests").rglob("test_*.py")):
        for promise, test in marked(path):
            found.setdefault(promise, set()).add(f"{path.relative_to(REPOSITORY).as_posix()}: {test}")
    return found


@cache
def promised() -> dict[str, list[str]]:
    """Promise to the cells beside it."""
    rows = [row for section in sections(PAGE) for row in section.rows()]
    found = {row[0].strip("`"): row[1:] for row in rows}
    assert len(found) == len(rows), "promised twice"
    return found


def test_every_promise_that_a_test_holds_is_on_the_page() -> None:
    assert {promise: tests for promise, tests in held().items() if promise not in promised()} == {}


def test_every_promise_on_the_page_is_held_by_a_test() -> None:
    assert promised().keys() - held().keys() == set()


def test_a_promise_is_one_sentence_and_names_a_file_that_holds_it() -> None:
    for promise, (sentence, file) in promised().items():
        assert sentence.endswith("."), promise
        assert any(test.startswith(f"tests/{file.strip('`')}: ") for test in held().get(promise, ())), promise
