"""``python -m animate_anyone.cli``: the command line."""

from animate_anyone.cli.main import main

if __name__ == "__main__":
    main()
