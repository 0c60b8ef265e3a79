"""The processes of a box, one file each, and the jail: the only place where the stages meet.

setup (privileged, before the start) ─▶ supervisor ─┬▶ capturer ─┄spool┄─▶ worker, one a lane ─▶ releaser ─▶ egress
"""
