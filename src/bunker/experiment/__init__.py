"""The experiment file, and the bundle that it is sealed into."""
