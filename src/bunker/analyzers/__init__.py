"""The built-in analyzers: they use `bunker.api` and nothing else, like everybody's.

Each emits its message table as records, columns of content left out: the fast way, no Python per message.
"""
