"""``python -m convpredict.cli``."""

from . import main

main()
