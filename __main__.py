"""``python -m tritium``: the command line."""
import sys

from tritium.probe.cli import main

sys.exit(main())
