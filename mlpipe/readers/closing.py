"""What makes a source a context manager."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Closing:
    """Closed at the end of its context, however it ends.

    Examples
    --------
    >>> class Source(Closing):
    ...     def close(self) -> None:
    ...         print("closed")
    >>> with Source():
    ...     print("open")
    open
    closed
    """

    def close(self) -> None:
        """Give back what was opened; harmless when repeated."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
