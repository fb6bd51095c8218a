"""Columns of a table of counts: arrays, or text of any length."""

from __future__ import annotations

from mlpipe.link import Array

Column = Array
