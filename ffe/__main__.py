"""``python -m ffe`` is ``ffe``."""

from ffe.cli import main

if __name__ == "__main__":
    main()
