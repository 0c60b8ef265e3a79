"""Analyze: messages in, records out; a fault of an analyzer costs the flow in hand."""
