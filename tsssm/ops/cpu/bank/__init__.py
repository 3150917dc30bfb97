"""A bank of level, trend and season systems over one series, and how well each has forecast so far."""

from tsssm.ops.cpu.bank.passes import LEAST, SUMS, UNKNOWN, bank_pass

__all__ = ["LEAST", "SUMS", "UNKNOWN", "bank_pass"]
