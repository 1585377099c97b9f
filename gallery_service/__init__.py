"""Stores a site's tracklets as vectors, searches them for a person, and serves people who look for one."""
