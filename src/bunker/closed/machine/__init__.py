"""The inside of the sealed image: process 1, which makes the machine a closed box and starts the process box in it.

Nothing here runs on an ordinary machine; `bunker.image` builds and starts what runs it.
"""
