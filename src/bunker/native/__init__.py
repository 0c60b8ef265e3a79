"""The doors to the compiled core: the only package that imports `bunker._core`."""
