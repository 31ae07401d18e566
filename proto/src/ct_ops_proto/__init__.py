"""The protocol's generated messages. Source: ``proto/ct_ops_proto``; regenerate with ``make proto``."""
