"""`python -m embq`: the same as the command `embq`."""

from embq.cli import main

if __name__ == "__main__":
    main()
