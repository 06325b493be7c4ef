"""`python -m smartcash_format` is the command `smartcash-format`."""

from smartcash_format.cli.start import main

if __name__ == "__main__":
    main()
