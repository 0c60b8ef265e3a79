"""The command line: reads what the operator wrote, sets the box up, prints what comes out of it."""
