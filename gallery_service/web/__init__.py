"""The service on the network: its addresses, its limits, its errors and its log."""
