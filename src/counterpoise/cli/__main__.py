"""``python -m counterpoise.cli``, for launchers that start several processes."""

from counterpoise.cli import main

main()
