"""``python -m mlpipe`` is ``mlpipe``."""

from __future__ import annotations

import sys

from mlpipe.cli.main import main

sys.exit(main())
