"""``python -m counterpoise``: the command line, without the script that an installation adds to the PATH."""

from counterpoise.cli import main

if __name__ == "__main__":
    main()
