"""A record as one HTML file that works offline; `render` makes it."""

from __future__ import annotations

from mlpipe.report.html.page import render

__all__ = ["render"]
