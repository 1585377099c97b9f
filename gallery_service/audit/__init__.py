"""The audit log: who did what and when, in a chain of hashes that shows every change made to it afterwards."""
