"""``python -m counterpoise.cli``: what launchers of several processes start."""

from counterpoise.cli.app import main

main()
