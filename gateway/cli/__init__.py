"""The command line: a file per family of commands, put together in `app.py`.

Commands that change anything ask the running gateway over `control.sock` (`client.py`); nothing is decided here.
"""
