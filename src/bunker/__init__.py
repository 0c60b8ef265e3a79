"""Bunker: a privacy-oriented platform for network tracing.

This file imports nothing: an import of the root counts as an import of all that it pulls in.
"""
