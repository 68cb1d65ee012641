"""``python -m zcpt``."""

from zcpt.cli import main

raise SystemExit(main())
