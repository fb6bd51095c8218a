"""Names of dtypes that verbs take; imports nothing, so that help costs nothing."""

from __future__ import annotations

from typing import Literal

DType = Literal[
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"
]
