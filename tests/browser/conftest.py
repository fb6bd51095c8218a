"""A headless Chromium, and pages opened in it as a user opens them: from a file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

SIZE = {"width": 1200, "height": 900}
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


def _without(what: str) -> NoReturn:
    """In CI nothing may be missing; elsewhere these tests are skipped."""
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        pytest.fail(f"{what}, and CI does without no test")
    pytest.skip(what)


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        _without("no Chromium: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _without("no Playwright: pip install playwright")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=["--disable-gpu", "--no-first-run"])
        yield found
        found.close()


class Watched:
    """A page, what it complained of, and what it asked for."""

    def __init__(self, context: Any) -> None:
        context.set_default_timeout(10_000)
        self.page = context.new_page()
        self.errors: list[str] = []
        self.asked: set[str] = set()
        self.page.on("console", lambda message: self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.asked.add(request.url))
        self.page.on("requestfailed", self._refused)

    def _refused(self, request: Any) -> None:
        """Take back what was asked for in vain: the policy did not let it out."""
        if request.failure == "csp":
            self.asked.discard(request.url)

    def open(self, path: Path) -> Any:
        self.errors.clear()
        self.asked.clear()
        self.page.goto(path.as_uri())
        return self.page


@pytest.fixture(scope="package")
def plain(browser: Any) -> Watched:
    """The page that is used again and again: making one takes longer than most tests."""
    return Watched(browser.new_context(viewport=SIZE))


@pytest.fixture
def opened(browser: Any, plain: Watched, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Open a page; at the end, nothing may have been asked of a network, and no error said.

    With options of a context it is a new one. A page that is `refused` something must have been, and nothing else.
    """
    used: list[tuple[Watched, bool]] = []
    fresh: list[Any] = []
    paths: list[Path] = []

    def open_page(html: str, *, refused: bool = False, **options: Any) -> Any:
        paths.append(tmp_path / f"report {len(paths)}.html")
        paths[-1].write_text(html, encoding="utf-8")
        watched = plain
        if not options:
            plain.page.set_viewport_size(SIZE)
        else:
            fresh.append(browser.new_context(**{"viewport": SIZE, **options}))
            watched = Watched(fresh[-1])
        used.append((watched, refused))
        return watched.open(paths[-1])

    yield open_page
    for context in fresh:
        context.close()
    for watched, refused in used:
        assert [error for error in watched.errors if not (refused and "Content Security Policy" in error)] == []
        assert bool(watched.errors) == refused
        assert {url for url in watched.asked if not url.startswith("blob:")} <= {path.as_uri() for path in paths}
