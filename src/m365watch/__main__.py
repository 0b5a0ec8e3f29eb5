"""`python -m m365watch` is the command `m365watch`."""

from m365watch.cli.main import main

if __name__ == "__main__":
    main()
