"""`python -m simgan_fast` is the command `simgan-fast`."""

from __future__ import annotations

import sys

from simgan_fast.cli import main

sys.exit(main())
