"""Builds and starts the sealed image: the closed box as a machine of its own.

Place in the flow: `image/` (a folder) ▶ build ▶ image directory with its manifest ▶ launch ▶ bunker.open receives.

Rules of this package:
1. The same inputs make the same bytes: no time, path, user or order of a directory goes into an image.
2. What is built is measured by its digest, and the digest stands in every statement of the machine.
3. Nothing here ever touches traffic; it hands descriptors, disks and interfaces to QEMU.
"""
