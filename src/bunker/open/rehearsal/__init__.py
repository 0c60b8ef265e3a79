"""Rehearsals: synthetic traffic full of planted values, and the search for them in whatever came out.

Nothing here ever sees real traffic. The tests in `tests/privacy` use the same code.
"""
