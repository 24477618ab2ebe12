"""``python -m animate_anyone``: the command line."""

from animate_anyone.cli.main import main

if __name__ == "__main__":
    main()
