"""One file a command of run.py: read the options, call models and toolkit, print."""
