"""Who may use the service, and for what: users, keys, rights, sessions, and the rule of every route."""
