"""The spool: the volatile encrypted buffer between capture and analysis. Format: docs/formats/spool.md."""
