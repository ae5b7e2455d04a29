"""`python -m dicomzarr_watch` is the command."""

import sys

if __name__ == "__main__":
    # Python looks for modules in the working directory first, which may be the inbox
    if not sys.flags.safe_path and __file__ != f"{sys.path[0]}/dicomzarr_watch/__main__.py":
        del sys.path[0]
    from dicomzarr_watch.cli import main

    main()
