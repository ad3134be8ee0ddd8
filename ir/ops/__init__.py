"""prunec.ir.ops."""
