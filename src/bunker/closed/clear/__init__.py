"""Clearing in the box: the gate is the core's (`crates/clear`); here stands where its noise comes from."""
