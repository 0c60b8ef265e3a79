"""Capture: packets come in, in blocks, from a ring of the kernel's or from capture files; nobody looks at a packet
here.
"""
