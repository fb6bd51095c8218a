"""What intrinsics share: their arguments by name, and their signatures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numba import types
from numba.core import cgutils

from mlpipe.kernels.simd import Value


class Arguments:
    """The arguments of an intrinsic by name, with addresses of array elements."""

    def __init__(self, names: Sequence[str], context: Any, builder: Any, signature: Any, values: Any) -> None:
        self._context, self._builder = context, builder
        self._types = dict(zip(names, signature.args, strict=True))
        self._values = dict(zip(names, values, strict=True))

    def __getitem__(self, name: str) -> Value:
        """The value of an argument."""
        return self._values[name]

    def type(self, name: str) -> Any:
        """The Numba type of an argument."""
        return self._types[name]

    def double(self, name: str) -> bool:
        """Whether an array holds float64."""
        return bool(self._types[name].dtype == types.float64)

    def shape(self, name: str) -> list[Value]:
        """Lengths of an array."""
        array = self._context.make_array(self._types[name])(self._context, self._builder, self._values[name])
        return list(cgutils.unpack_tuple(self._builder, array.shape))

    def at(self, name: str, *indices: Value) -> Value:
        """Address of an element of a C-contiguous array."""
        array = self._context.make_array(self._types[name])(self._context, self._builder, self._values[name])
        offset = indices[0]
        for length, index in zip(self.shape(name)[1:], indices[1:], strict=True):
            offset = self._builder.add(self._builder.mul(offset, length), index)
        return self._builder.gep(array.data, [offset])


def signature_of(body: Callable[[Arguments, Any], None], **arguments: Any) -> tuple[Any, Any]:
    """Signature and generator of an intrinsic that returns nothing; integers arrive as 64-bit ones."""
    kinds = [types.intp if isinstance(kind, types.Integer) else kind for kind in arguments.values()]

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        body(Arguments(list(arguments), context, builder, signature, values), builder)
        return context.get_dummy_value()

    return types.void(*kinds), generate
