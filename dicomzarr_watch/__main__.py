"""`python -m dicomzarr_watch` is the command."""

from dicomzarr_watch.cli import main

if __name__ == "__main__":
    main()
