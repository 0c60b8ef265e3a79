"""The policy language: what may leave, field by field; everything else does not exist. Manual: docs/policy.md."""
