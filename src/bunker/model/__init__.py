"""Value types that every stage may know: fields, records, analyzers, counters, envelopes."""
